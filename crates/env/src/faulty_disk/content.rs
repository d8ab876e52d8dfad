//! Content of one file: what a reader sees, what the medium holds, and which sectors lie between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes that reach the medium whole or not at all.
pub(super) const SECTOR: u64 = 512;
const SECTOR_LEN: usize = 512;
const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;
const SECTORS_PER_PAGE: u64 = PAGE / SECTOR;
/// Versions of one unsynced sector that are remembered beside the newest.
const VERSIONS_MAX: usize = 3;

pub(super) type Sector = [u8; SECTOR_LEN];
type Page = Option<Arc<[u8; PAGE_LEN]>>;

/// A sparse byte array whose pages are shared between copies until one of them is written.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: Vec<Page>,
    len: u64,
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("in-memory files are far smaller than the address space")
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> usize {
        let wanted = self.len.saturating_sub(offset).min(out.len() as u64);
        let mut done = 0;
        while done < to_usize(wanted) {
            let at = offset + done as u64;
            let within = to_usize(at % PAGE);
            let take = (PAGE_LEN - within).min(to_usize(wanted) - done);
            let target = &mut out[done..done + take];
            match self.pages.get(to_usize(at / PAGE)) {
                Some(Some(page)) => target.copy_from_slice(&page[within..within + take]),
                _ => target.fill(0),
            }
            done += take;
        }
        done
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let end = offset + data.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = to_usize(at % PAGE);
            let take = (PAGE_LEN - within).min(data.len() - done);
            let source = &data[done..done + take];
            let page = &mut self.pages[to_usize(at / PAGE)];
            if page.is_some() || source.iter().any(|b| *b != 0) {
                let page = page.get_or_insert_with(|| Arc::new([0; PAGE_LEN]));
                Arc::make_mut(page)[within..within + take].copy_from_slice(source);
            }
            done += take;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let within = to_usize(len % PAGE);
            if within != 0
                && let Some(Some(page)) = self.pages.get_mut(to_usize(len / PAGE))
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.pages.resize(to_usize(len.div_ceil(PAGE)), None);
        self.len = len;
    }

    pub(super) fn sector(&self, sector: u64) -> Sector {
        let mut out = [0; SECTOR_LEN];
        self.read(&mut out, sector * SECTOR);
        out
    }

    /// Overwrites what lies inside the file of one sector; never extends it.
    pub(super) fn put_sector(&mut self, sector: u64, content: &Sector) {
        let offset = sector * SECTOR;
        let inside = to_usize(self.len.saturating_sub(offset).min(SECTOR));
        if inside > 0 {
            self.write(&content[..inside], offset);
        }
    }
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// What readers see: the page cache.
    current: Pages,
    /// What survives a power loss for certain.
    stable: Pages,
    /// Sectors written since the last sync, with earlier unsynced versions of each.
    dirty: BTreeMap<u64, Vec<Sector>>,
    /// Pages as they were before the last sync changed them: the source of stale sectors.
    previous: BTreeMap<usize, Page>,
    unreadable: BTreeSet<u64>,
}

/// What a power loss did to one file.
#[derive(Clone, Copy, Default)]
pub(super) struct Outcome {
    pub(super) kept: u64,
    pub(super) lost: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.current.len()
    }

    /// Reads, or `None` where a sector on the way is unreadable.
    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> Option<usize> {
        let last = (offset + out.len() as u64).saturating_sub(1) / SECTOR;
        if !out.is_empty()
            && !self.unreadable.is_empty()
            && self.unreadable.range(offset / SECTOR..=last).next().is_some()
        {
            return None;
        }
        Some(self.current.read(out, offset))
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        let last = (offset + data.len() as u64 - 1) / SECTOR;
        for sector in offset / SECTOR..=last {
            self.unreadable.remove(&sector);
            match self.dirty.get_mut(&sector) {
                Some(versions) => {
                    let version = self.current.sector(sector);
                    if versions.len() < VERSIONS_MAX {
                        versions.push(version);
                    }
                }
                None => {
                    self.dirty.insert(sector, Vec::new());
                }
            }
        }
        self.current.write(data, offset);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.current.len() {
            self.dirty.retain(|sector, _| sector * SECTOR < len);
            if !len.is_multiple_of(SECTOR) {
                self.dirty.entry(len / SECTOR).or_default();
            }
        }
        self.current.set_len(len);
    }

    pub(super) fn sync(&mut self) {
        self.stable.set_len(self.current.len());
        let dirty = std::mem::take(&mut self.dirty);
        let mut sectors = dirty.into_keys().peekable();
        while let Some(sector) = sectors.next() {
            let page = sector / SECTORS_PER_PAGE;
            let mut in_page = vec![sector];
            while let Some(next) = sectors.next_if(|next| next / SECTORS_PER_PAGE == page) {
                in_page.push(next);
            }
            self.sync_page(to_usize(page), &in_page);
        }
    }

    fn sync_page(&mut self, page: usize, sectors: &[u64]) {
        let before = self.stable.pages.get(page).cloned().flatten();
        if sectors.len() as u64 == SECTORS_PER_PAGE {
            if let Some(slot) = self.stable.pages.get_mut(page) {
                *slot = self.current.pages.get(page).cloned().flatten();
            }
        } else {
            for sector in sectors {
                self.stable.put_sector(*sector, &self.current.sector(*sector));
            }
        }
        self.previous.insert(page, before);
    }

    /// A sync that failed: the kernel marks the pages clean although they never reached the medium.
    pub(super) fn drop_dirty(&mut self) {
        self.dirty.clear();
    }

    /// Power loss. `coin` says whether one thing survives, `pick` chooses among `n` versions.
    pub(super) fn crash(
        &mut self,
        coin: &mut dyn FnMut() -> bool,
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut after = self.stable.clone();
        if self.current.len() != after.len() && coin() {
            after.set_len(self.current.len());
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if !coin() {
                outcome.lost += 1;
                continue;
            }
            outcome.kept += 1;
            let chosen = match pick(versions.len() + 1) {
                0 => self.current.sector(sector),
                n => versions[n - 1],
            };
            after.put_sector(sector, &chosen);
        }
        self.stable = after.clone();
        self.current = after;
        outcome
    }

    /// Changes the medium and every cached copy of it.
    pub(super) fn damage(&mut self, sector: u64, change: impl Fn(&mut Sector)) {
        for pages in [&mut self.current, &mut self.stable] {
            let mut content = pages.sector(sector);
            change(&mut content);
            pages.put_sector(sector, &content);
        }
    }

    pub(super) fn current_sector(&self, sector: u64) -> Sector {
        self.current.sector(sector)
    }

    /// The sector as it was before the last sync that changed its page; zeros if it was never synced before.
    pub(super) fn stale_sector(&self, sector: u64) -> Sector {
        let within = to_usize(sector % SECTORS_PER_PAGE) * SECTOR_LEN;
        let mut out = [0; SECTOR_LEN];
        if let Some(Some(page)) = self.previous.get(&to_usize(sector / SECTORS_PER_PAGE)) {
            out.copy_from_slice(&page[within..within + SECTOR_LEN]);
        }
        out
    }

    pub(super) fn make_unreadable(&mut self, sector: u64) {
        self.unreadable.insert(sector);
    }

    pub(super) fn cut(&mut self, len: u64) {
        self.set_len(len.min(self.current.len()));
        self.stable.set_len(len.min(self.stable.len()));
    }

    pub(super) fn has_unsynced(&self) -> bool {
        !self.dirty.is_empty() || self.current.len() != self.stable.len()
    }
}

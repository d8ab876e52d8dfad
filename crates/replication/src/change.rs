//! Changes of which streams exist, step by step. Whoever carries them out does one step, says how it went, and is told
//! the next.

use std::path::PathBuf;
use std::sync::Arc;

use linnet_assets::{Answer, Command, Place, RestoreMark, RestorePart};
use linnet_env::Disk;
use linnet_ids::{GroupId, Mono, StreamSeq};
use linnet_jsapi::errors::ApiError;
use linnet_jsapi::policies::StorageType;
use linnet_store::Kind;

use crate::catalogue::Assignment;
use crate::group::StreamGroup;
use crate::kept::KeptConsumer;
use crate::restore::group_dir;

/// What a change needs done next.
pub enum Step {
    /// Give the catalogue's stream this command; [`Change::answered`].
    Catalogue(Command),
    /// Give the stream this command; [`Change::answered`].
    Stream(Command),
    /// Let the group run; [`Change::done`] once everything it proposed is applied.
    Install(Box<StreamGroup>),
    /// Nobody finds the stream from here on; [`Change::done`].
    Hide,
    /// Stop the group and remove its directory, then give up its log if it has one; [`Change::done`].
    Remove {
        /// It has a log.
        has_log: bool,
    },
    /// It is over.
    End(Result<(), ApiError>),
}

/// Where a new group lives.
pub struct Site {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The store's directory.
    pub dir: PathBuf,
    /// Names for answers.
    pub place: Place,
    /// Sequences to reserve at a time.
    pub floor_step: StreamSeq,
}

impl Site {
    /// Where the messages of a group are.
    pub(crate) fn kind(&self, storage: StorageType, group: GroupId) -> Kind {
        match storage {
            StorageType::Memory => Kind::Memory,
            StorageType::File => Kind::File { disk: self.disk.clone(), dir: group_dir(&self.dir, group) },
        }
    }
}

/// A change under way.
pub struct Change {
    assignment: Assignment,
    stage: Stage,
}

enum Stage {
    /// The assignment of a new stream is being stored.
    Creating(GroupId, Box<Site>),
    /// The group begins.
    Installing,
    /// The assignment of a group that runs is being stored.
    MarkingLive,
    /// The assignment of a stream that was restored from a backup is being stored.
    Naming,
    /// Its log takes the last mark.
    Completing,
    /// The new configuration is being stored.
    Storing,
    /// The stream takes it over.
    Updating,
    /// The stream ends.
    Ending,
    Hiding,
    /// The catalogue forgets the consumers of a stream in memory.
    ForgettingConsumers,
    /// The catalogue forgets it.
    Forgetting,
    Removing,
    /// Nobody finds a stream that could not be recovered.
    Abandoning,
    /// Its files and its log are put away.
    PuttingAway,
    /// The catalogue forgets a stream that ended earlier.
    ForgettingEnded,
}

impl Change {
    /// A new stream. Its assignment is stored before the group begins, and marked as live once the group has its first
    /// entry in the log: in between, an empty log is no loss.
    pub fn create(assignment: Assignment, group: GroupId, site: Site) -> (Self, Step) {
        let assignment = Assignment { live: false, ..assignment };
        Self::begin(assignment, Stage::Creating(group, Box::new(site)), Assignment::store)
    }

    /// Another configuration: `assignment` has it.
    pub fn update(assignment: Assignment) -> (Self, Step) {
        Self::begin(Assignment { live: true, ..assignment }, Stage::Storing, Assignment::store)
    }

    /// The end of a stream: first in its log, then in the catalogue, then its files go.
    pub fn delete(assignment: Assignment) -> (Self, Step) {
        (Self { assignment, stage: Stage::Ending }, Step::Stream(Command::Delete))
    }

    /// The end of a stream that could not be recovered. Nobody can write its end to its log, so the catalogue forgets it
    /// last: until then it is listed as lost.
    pub fn abandon(assignment: Assignment) -> (Self, Step) {
        (Self { assignment, stage: Stage::Abandoning }, Step::Hide)
    }

    /// A stream that was restored from a backup is complete: the catalogue names it, and then its log says so.
    pub fn finish_restore(assignment: Assignment) -> (Self, Step) {
        Self::begin(Assignment { live: true, ..assignment }, Stage::Naming, Assignment::store)
    }

    /// A restored stream that was not marked as live runs.
    pub fn mark_live(assignment: Assignment) -> (Self, Step) {
        Self::begin(Assignment { live: true, ..assignment }, Stage::MarkingLive, Assignment::store)
    }

    /// A restored stream had ended.
    pub fn forget_ended(assignment: Assignment) -> (Self, Step) {
        Self::begin(assignment, Stage::ForgettingEnded, Assignment::forget)
    }

    fn begin(assignment: Assignment, stage: Stage, first: impl Fn(&Assignment) -> Command) -> (Self, Step) {
        let step = Step::Catalogue(first(&assignment));
        (Self { assignment, stage }, step)
    }

    /// The command was answered. A refused one ends the change.
    pub fn answered(&mut self, answer: Answer, now: Mono) -> Step {
        match answer {
            Ok(_) => self.done(now),
            Err(error) => Step::End(Err(error)),
        }
    }

    /// The step is done.
    pub fn done(&mut self, now: Mono) -> Step {
        let (next, step) = match &self.stage {
            Stage::Creating(group, site) => {
                let solo = self.fresh_group(*group, site, now);
                (Stage::Installing, Step::Install(Box::new(solo)))
            }
            Stage::Installing => {
                self.assignment.live = true;
                (Stage::MarkingLive, Step::Catalogue(self.assignment.store()))
            }
            Stage::Storing => {
                let config = Box::new(self.assignment.config.clone());
                (Stage::Updating, Step::Stream(Command::Update(config)))
            }
            Stage::Naming => {
                let done = Command::Restore(RestorePart::Mark(RestoreMark::Done));
                (Stage::Completing, Step::Stream(done))
            }
            Stage::Ending => (Stage::Hiding, Step::Hide),
            Stage::Abandoning => (Stage::PuttingAway, Step::Remove { has_log: true }),
            Stage::PuttingAway => (Stage::ForgettingEnded, Step::Catalogue(self.assignment.forget())),
            Stage::Hiding if self.assignment.config.storage == StorageType::Memory => {
                let (account, stream) = (&self.assignment.account, &self.assignment.config.name);
                let command = KeptConsumer::forget_all(account, stream);
                (Stage::ForgettingConsumers, Step::Catalogue(command))
            }
            Stage::Hiding | Stage::ForgettingConsumers => {
                (Stage::Forgetting, Step::Catalogue(self.assignment.forget()))
            }
            Stage::Forgetting => {
                let has_log = self.assignment.config.storage == StorageType::File;
                (Stage::Removing, Step::Remove { has_log })
            }
            Stage::MarkingLive
            | Stage::Completing
            | Stage::Updating
            | Stage::Removing
            | Stage::ForgettingEnded => {
                return Step::End(Ok(()));
            }
        };
        self.stage = next;
        step
    }

    fn fresh_group(&self, group: GroupId, site: &Site, now: Mono) -> StreamGroup {
        let kind = site.kind(self.assignment.config.storage, group);
        self.assignment.begin(group, kind, site.place.clone(), site.floor_step, now)
    }
}

#[cfg(test)]
mod tests {
    use linnet_assets::CommandOutcome;
    use linnet_env::FaultyDisk;
    use linnet_jsapi::StreamConfig;
    use linnet_jsapi::errors;

    use super::*;
    use crate::floor::FLOOR_STEP;

    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };

    fn assignment() -> Assignment {
        let config =
            StreamConfig { name: "S".to_owned(), storage: StorageType::File, ..StreamConfig::default() };
        Assignment {
            account: "A".to_owned(),
            group: GROUP.to_string(),
            created: 1,
            live: false,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        }
    }

    fn create() -> (Change, Step) {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        let (dir, place) = ("/store".into(), Place::default());
        Change::create(assignment(), GROUP, Site { disk, dir, place, floor_step: FLOOR_STEP })
    }

    /// The kind of a step and what it says of the assignment.
    fn describe(step: &Step) -> String {
        match step {
            Step::Catalogue(Command::Append { payload, .. }) => {
                let stored: Assignment = serde_json::from_slice(payload).unwrap();
                format!("store, live {}", stored.live)
            }
            Step::Catalogue(Command::Purge(purge)) => format!("forget {}", purge.filter),
            Step::Catalogue(_) => "something else of the catalogue".to_owned(),
            Step::Stream(command) => format!("stream {command:?}"),
            Step::Install(group) => format!("install {}", group.group()),
            Step::Hide => "hide".to_owned(),
            Step::Remove { has_log } => format!("remove, log {has_log}"),
            Step::End(result) => format!("end {}", result.is_ok()),
        }
    }

    fn steps((mut change, mut step): (Change, Step)) -> Vec<String> {
        let mut all = vec![describe(&step)];
        while !matches!(step, Step::End(_)) {
            let now = Mono::default();
            step = match step {
                Step::Catalogue(_) | Step::Stream(_) => change.answered(Ok(CommandOutcome::Done), now),
                _ => change.done(now),
            };
            all.push(describe(&step));
        }
        all
    }

    #[test]
    fn a_stream_is_named_before_it_begins_and_live_after() {
        let install = format!("install {GROUP}");
        assert_eq!(steps(create()), ["store, live false", &install, "store, live true", "end true"]);
    }

    #[test]
    fn a_stream_ends_in_its_log_before_the_catalogue_and_the_files_forget_it() {
        let expected = ["stream Delete", "hide", "forget stream.41.S", "remove, log true", "end true"];
        assert_eq!(steps(Change::delete(assignment())), expected);
    }

    #[test]
    fn a_restored_stream_is_named_before_its_log_calls_it_complete() {
        let expected = ["store, live true", "stream Restore(Mark(Done))", "end true"];
        assert_eq!(steps(Change::finish_restore(assignment())), expected);
    }

    #[test]
    fn a_stream_that_is_lost_leaves_the_catalogue_last() {
        let expected = ["hide", "remove, log true", "forget stream.41.S", "end true"];
        assert_eq!(steps(Change::abandon(assignment())), expected);
    }

    #[test]
    fn a_refusal_ends_the_change() {
        let (mut change, _) = create();
        let step = change.answered(Err(errors::INSUFFICIENT_RESOURCES), Mono::default());
        assert_eq!(describe(&step), "end false");
    }
}

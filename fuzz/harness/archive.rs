//! Backups: any bytes are read or refused, in memory that does not depend on what they claim.

use std::io::Write as _;

use linnet_archive::{ENTRY_MAX, Part, Reader};

/// Reads the bytes as a backup: as they are, behind the beginning of frames, and as what whole frames hold.
pub fn run(bytes: &[u8]) {
    read(bytes);
    let mut framed = b"\xff\x06\x00\x00S2sTwO".to_vec();
    framed.extend_from_slice(bytes);
    read(&framed);
    let mut frames = snap::write::FrameEncoder::new(Vec::new());
    if frames.write_all(bytes).is_ok()
        && let Ok(framed) = frames.into_inner()
    {
        read(&framed);
    }
}

fn read(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut last = 0;
    loop {
        match reader.next_part() {
            Ok(Part::Message(message)) => {
                assert!(message.seq > last && message.body.len() <= ENTRY_MAX);
                assert!(message.header_len <= message.body.len());
                last = message.seq;
            }
            Ok(Part::Consumer(..) | Part::Removed { .. }) => {}
            Ok(Part::End(_)) | Err(_) => return,
        }
    }
}

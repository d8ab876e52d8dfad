//! Backups: any bytes are read or refused, in memory that does not depend on what they claim.

use linnet_archive::{ENTRY_MAX, Part, Reader};

/// Reads the bytes as a backup, as they are and as what the frames of one hold.
pub fn run(bytes: &[u8]) {
    read(bytes);
    let mut framed = b"\xff\x06\x00\x00S2sTwO".to_vec();
    framed.extend_from_slice(bytes);
    read(&framed);
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

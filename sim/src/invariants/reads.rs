//! A read gives the messages it means, as they are stored, and no others.

use linnet_ids::Wall;
use linnet_jsapi::info::StoredMessage;
use linnet_wire::headers;

use super::{Check, Violation, broken, content};
use crate::facts::StreamFacts;
use crate::model::Selection;
use crate::questions::{Read, Reply};

const NAME: &str = "reads";

/// The answer to `MSG.GET`. A message that the disk was asked for may have gone meanwhile.
pub(crate) fn is_found(stream: &StreamFacts, read: &Read, found: Option<&StoredMessage>) -> Check {
    let meant: Vec<Option<u64>> = read.meant.iter().map(|s| s.seqs.first().copied()).collect();
    let Some(found) = found else {
        let may_be_gone =
            meant.iter().any(|seq| seq.is_none_or(|seq| !stream.model.messages.contains_key(&seq)));
        let text = format!("{}: {:?} is there and was not found", stream.name, read.request);
        return if may_be_gone { Ok(()) } else { broken(NAME, text) };
    };
    let Some(message) = stream.model.messages.get(&found.seq).filter(|_| meant.contains(&Some(found.seq)))
    else {
        let text = format!("{}: {:?} means {meant:?} and gave {}", stream.name, read.request, found.seq);
        return broken(NAME, text);
    };
    let headers = if read.request.no_hdr { &Vec::new() } else { &message.headers };
    let is_same = found.subject.as_bytes() == message.subject
        && found.hdrs == *headers
        && found.data == message.payload
        && found.time.0 == message.time;
    if is_same {
        Ok(())
    } else {
        broken(NAME, format!("{}: {} was read as another message", stream.name, found.seq))
    }
}

/// One message that answers a direct get, the newest of `read.got`. True if it is the last one.
pub(crate) fn is_right(
    stream: &StreamFacts,
    read: &Read,
    block: &[u8],
    payload: &[u8],
) -> Result<bool, Violation> {
    let Some(reply) = read.got.last().filter(|reply| reply.status.is_empty()) else { return Ok(true) };
    let is_single = read.request.batch == 0 && read.request.multi_last.is_empty();
    let Some((seq, message)) = reply.seq.and_then(|seq| stream.model.messages.get_key_value(&seq)) else {
        let text = format!("{}: {:?} gave {:?}, which is not there", stream.name, read.request, reply.seq);
        return broken(NAME, text);
    };
    let (mut found, expected) = (content::list(block), content::list(&message.headers));
    found.truncate(expected.len());
    let is_same = found == expected
        && headers::get(block, "Nats-Subject") == Some(message.subject.as_slice())
        && headers::get(block, "Nats-Stream") == Some(stream.name.as_bytes())
        && headers::get(block, "Nats-Time-Stamp") == Some(Wall(message.time).rfc3339().as_bytes())
        && payload == message.payload;
    if !is_same {
        return broken(NAME, format!("{}: {seq} was read as another message", stream.name));
    }
    if !read.meant.iter().any(|meant| meant.seqs.contains(seq)) {
        let text = format!("{}: {:?} gave {seq}, which it does not mean", stream.name, read.request);
        return broken(NAME, text);
    }
    Ok(is_single)
}

/// Everything came: of a stream that did not change meanwhile, exactly what the request means.
pub(crate) fn are_complete(stream: &StreamFacts, read: &Read) -> Check {
    let [meant] = read.meant.as_slice() else { return Ok(()) };
    let expected = replies(stream, read, meant);
    if expected == read.got {
        return Ok(());
    }
    let text = format!("{}: {:?} gave {:?}, not {expected:?}", stream.name, read.request, read.got);
    broken(NAME, text)
}

/// What a direct get is answered with.
fn replies(stream: &StreamFacts, read: &Read, meant: &Selection) -> Vec<Reply> {
    let request = &read.request;
    let bare =
        |status: &str| Reply { status: status.into(), seq: None, pending: None, last: None, up_to: None };
    let is_many = !request.multi_last.is_empty();
    if request.batch == 0 && !is_many {
        let found = meant.seqs.first().map(|seq| Reply { seq: Some(*seq), ..bare("") });
        return vec![found.unwrap_or_else(|| bare("404 Message Not Found"))];
    }
    if meant.seqs.is_empty() && is_many {
        return vec![bare("404 No Results")];
    }
    if meant.seqs.is_empty() && request.batch > 0 {
        return vec![bare("404 Message Not Found")];
    }
    let most = match usize::try_from(request.batch) {
        Err(_) if is_many => usize::MAX,
        Err(_) => 0,
        Ok(0) => usize::MAX,
        Ok(most) => most,
    };
    let most_bytes = usize::try_from(request.max_bytes).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
    let (mut out, mut bytes, mut last, mut left) = (Vec::new(), 0, 0, meant.seqs.len() as u64);
    for seq in meant.seqs.iter().take(most) {
        if bytes >= most_bytes {
            break;
        }
        left -= 1;
        out.push(Reply { seq: Some(*seq), pending: Some(left), last: Some(last), ..bare("") });
        let size = |m: &crate::model::Message| m.subject.len() + m.headers.len() + m.payload.len();
        bytes += stream.model.messages.get(seq).map_or(0, size);
        last = *seq;
    }
    let up_to = is_many.then_some(meant.up_to);
    out.push(Reply { pending: Some(left), last: Some(last), up_to, ..bare("204 EOB") });
    out
}

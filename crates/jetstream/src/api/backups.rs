use linnet_assets::{Command, CommandOutcome, Snapshot};
use linnet_jsapi::decode;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::requests::{StreamRestoreRequest, StreamSnapshotRequest};
use linnet_jsapi::responses::{StreamRestoreResponse, StreamSnapshotResponse};

use super::Call;
use super::streams::find;
use crate::advisories::Writer;
use crate::backup::{Job, Kind, RestoreJob, RestoreOrder, Slot, SnapshotJob, SnapshotOrder};

/// Bytes of a chunk: usual, smallest, largest.
const CHUNK: (usize, usize, usize) = (128 << 10, 1 << 10, 1 << 20);
/// Bytes on their way: usual, smallest, largest.
const WINDOW: (usize, usize, usize) = (8 << 20, 1 << 10, 32 << 20);

/// What was asked for, within the bounds; the usual for nothing.
fn bounded(asked: i64, (usual, min, max): (usize, usize, usize)) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => usual,
        Ok(asked) => asked.clamp(min, max),
    }
}

/// `STREAM.SNAPSHOT`. The data follows the answer.
pub(super) async fn snapshot(call: &mut Call<'_>, stream: &str) -> Result<StreamSnapshotResponse, ApiError> {
    decode::require_body(call.body)?;
    let handle = find(call, stream)?;
    let request: StreamSnapshotRequest = decode::decode(call.body, call.strictness())?.value;
    if !linnet_subject::is_valid_literal(request.deliver_subject.as_bytes()) {
        return Err(errors::SNAPSHOT_DELIVER_SUBJECT_INVALID);
    }
    let slot = slot(call, Kind::Snapshot);
    let slot = slot.ok_or_else(|| errors::stream_snapshot("too many backups at a time"))?;
    let command = Command::Snapshot { consumers: !request.no_consumers };
    let CommandOutcome::Snapshot(snapshot) = handle.ask(command).await? else {
        return Err(errors::STREAM_NOT_FOUND);
    };
    if request.jsck {
        check(&snapshot).await?;
    }
    let chunk = bounded(request.chunk_size, CHUNK);
    let window = bounded(request.window_size, WINDOW).max(chunk);
    let broker = &call.engine.broker;
    let response = StreamSnapshotResponse { config: snapshot.config.clone(), state: snapshot.state.clone() };
    call.job = Some(Job::Snapshot(Box::new(SnapshotJob {
        order: SnapshotOrder { deliver: request.deliver_subject, chunk, window, id: call.names.unique() },
        account: call.account.account.clone(),
        handle,
        snapshot,
        publisher: broker.publisher(),
        advisories: Writer::new(broker, &call.engine.config.domain),
        client: call.caller(),
        clock: broker.clock().clone(),
        _slot: slot,
    })));
    Ok(response)
}

/// Reads every message once.
async fn check(snapshot: &Snapshot) -> Result<(), ApiError> {
    let Some(pinned) = snapshot.messages.lock().clone() else { return Ok(()) };
    let checked = tokio::task::spawn_blocking(move || {
        let mut reader = pinned.read();
        while reader.next_record().map_err(errors::stream_snapshot)?.is_some() {}
        Ok(())
    });
    checked.await.unwrap_or_else(|_| Err(errors::stream_snapshot("internal error")))
}

fn slot(call: &Call<'_>, kind: Kind) -> Option<Slot> {
    Slot::take(&call.engine.backups, &call.account.backups, kind)
}

/// `STREAM.RESTORE`. The client sends the data to the subject of the answer.
pub(super) async fn restore(call: &mut Call<'_>, stream: &str) -> Result<StreamRestoreResponse, ApiError> {
    decode::require_body(call.body)?;
    let request: StreamRestoreRequest = decode::decode(call.body, call.strictness())?.value;
    let mut config = request.config;
    if config.name.is_empty() {
        config.name = stream.to_owned();
    }
    if config.name != stream {
        return Err(errors::STREAM_MISMATCH);
    }
    let cluster = call.engine.cluster.clone();
    let exists = match &cluster {
        None => call.account.stream(stream).is_some(),
        Some(cluster) => cluster.view.stream(call.account.name(), stream).is_some(),
    };
    if exists {
        return Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED);
    }
    let config = call.engine.judge_restored(call.account, config)?;
    let members = match &cluster {
        None => Vec::new(),
        Some(cluster) => call.engine.place_in_lives(cluster, &config).await?,
    };
    let slot = slot(call, Kind::Restore);
    let slot = slot.ok_or_else(|| errors::stream_restore("too many backups at a time"))?;
    let subject = format!("$JS.SNAPSHOT.RESTORE.{stream}.{}", call.names.unique());
    let last_seq = request.state.last_seq;
    let client = call.caller();
    let order = RestoreOrder { config, subject: subject.clone(), last_seq, members, client };
    call.job = Some(Job::Restore(Box::new(RestoreJob::new(call.engine, call.account, order, slot))));
    Ok(StreamRestoreResponse { deliver_subject: subject })
}

use tokio::time::timeout;

use super::*;
use crate::cluster::testing::{LONG, Server, servers};

const ECHO: AskKind = AskKind(1);
const LOST: AskKind = AskKind(2);
const NEVER: AskKind = AskKind(3);
const LARGE: AskKind = AskKind(4);

#[test]
fn ids_round_trip_and_short_ones_are_refused() {
    let id = QuestionId { boot: 7, number: 1 << 40 };
    let mut bytes = Vec::new();
    id.put(&mut bytes);
    bytes.extend_from_slice(b"Kbody");
    let whole = Bytes::from(bytes);
    assert_eq!(QuestionId::take(&whole), Some((id, b'K', Bytes::from_static(b"body"))));
    assert_eq!(QuestionId::take(&whole.slice(..16)), None);
    for status in Status::ALL {
        assert_eq!(Status::of(status.number()), Some(status));
    }
    assert_eq!(Status::of(9), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_or_it_is_said_why_not() {
    let [(a, at_a, heard_a), (b, at_b, heard_b), (c, at_c, heard_c)] = servers(["a", "b", "c"]).await;
    for (heard, others) in [(&heard_a, ["b", "c"]), (&heard_b, ["a", "c"]), (&heard_c, ["a", "b"])] {
        for other in others {
            heard.reaches(other).await;
        }
    }
    let [of_b, of_c] = ["b", "c"].map(PeerId::of_name);
    at_b.answer_with(ECHO, |from, body, answerer| {
        answerer.answer(&[from.as_str().as_bytes(), b" asks ", &body].concat());
    });
    at_b.answer_with(LOST, |_, _, answerer| drop(answerer));
    at_b.answer_with(LARGE, |_, _, answerer| answerer.answer(&vec![0; BODY_MAX + 1]));
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    at_b.answer_with(NEVER, move |_, _, answerer| keep.lock().push(answerer));

    let told = at_a.ask(of_b, ECHO, b"what", LONG).await.unwrap();
    assert_eq!(told, [PeerId::of_name("a").as_str().as_bytes(), b" asks what"].concat());
    let large = vec![5; 3 << 20];
    assert!(at_a.ask(of_b, ECHO, &large, LONG).await.unwrap().ends_with(&large));
    assert_eq!(at_a.ask(of_b, LOST, b"", LONG).await, Err(AskError::NoAnswer));
    assert_eq!(at_a.ask(of_c, ECHO, b"", LONG).await, Err(AskError::NoAnswer), "C knows no such questions");
    assert_eq!(at_a.ask(of_b, LARGE, b"", LONG).await, Err(AskError::TooLarge));
    assert_eq!(at_a.ask(of_b, ECHO, &vec![0; BODY_MAX + 1], LONG).await, Err(AskError::TooLarge));
    let nobody = PeerId::of_name("nobody");
    assert_eq!(at_a.ask(nobody, ECHO, b"", LONG).await, Err(AskError::Unreachable));
    assert_eq!(at_a.ask(of_b, NEVER, b"", Duration::from_millis(20)).await, Err(AskError::TimedOut));

    let answers = at_a.ask_all(ECHO, b"all".to_vec(), LONG).await;
    assert_eq!(
        answers.iter().map(|(peer, answer)| (*peer, answer.is_ok())).collect::<Vec<_>>(),
        [(of_b, true), (of_c, false)]
    );

    // Who stops, answers nothing any more.
    let waiting = at_a.ask(of_b, NEVER, b"", LONG);
    let stopping = async {
        crate::cluster::testing::eventually("it is asked", || kept.lock().len() == 2).await;
        at_b.stop().await;
    };
    let (answer, ()) = timeout(LONG, async { tokio::join!(waiting, stopping) }).await.unwrap();
    assert_eq!(answer, Err(AskError::Unreachable));
    assert!(at_a.asks.pending.lock().is_empty(), "nothing is remembered");
    at_a.stop().await;
    at_c.stop().await;
    assert_eq!(at_a.ask(of_c, ECHO, b"", LONG).await, Err(AskError::Unreachable));
    [&a, &b, &c].into_iter().for_each(Server::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_too_much_at_once_says_so() {
    let [(a, at_a, heard_a), (b, at_b, heard_b)] = servers(["a", "b"]).await;
    heard_a.reaches("b").await;
    heard_b.reaches("a").await;
    at_b.answer_with(ECHO, |_, body, answerer| answerer.answer(&body));
    let of_b = PeerId::of_name("b");
    let room =
        at_b.asks.asked_room.clone().try_acquire_many_owned(u32::try_from(ASKED_BYTES_MAX - 4).unwrap());
    assert_eq!(at_a.ask(of_b, ECHO, b"12345", LONG).await, Err(AskError::Busy), "no room there");
    assert_eq!(at_a.ask(of_b, ECHO, b"1234", LONG).await.unwrap(), b"1234"[..]);
    drop(room);
    assert_eq!(at_a.ask(of_b, ECHO, b"12345", LONG).await.unwrap(), b"12345"[..]);

    let waiting = |number| (number, Pending { from: of_b, answer: oneshot::channel().0 });
    let others = 1 << 40;
    let many = u64::try_from(PENDING_MAX).unwrap();
    at_a.asks.pending.lock().extend((others..others + many).map(waiting));
    assert_eq!(at_a.ask(of_b, ECHO, b"", LONG).await, Err(AskError::Busy), "too many wait here");
    at_a.asks.pending.lock().clear();
    assert!(at_a.ask(of_b, ECHO, b"", LONG).await.is_ok());
    at_a.stop().await;
    at_b.stop().await;
    [&a, &b].into_iter().for_each(Server::stop);
}

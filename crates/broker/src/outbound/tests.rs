use super::*;

/// Appends batches of these sizes; returns the lengths of the chunks they became.
fn chunks_of(sizes: &[usize]) -> Vec<usize> {
    let mut state = State::new(None);
    let mut expected = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let mut batch = Vec::with_capacity(CHUNK_MAX);
        batch.resize(*size, n as u8);
        expected.extend_from_slice(&batch);
        state.append(&mut batch);
        assert!(batch.is_empty());
    }
    let kept: Vec<u8> = state.queue.iter().flat_map(|chunk| chunk.bytes().to_vec()).collect();
    assert!(kept == expected, "bytes were lost or reordered");
    assert_eq!(state.queued, expected.len());
    state.queue.iter().map(|chunk| chunk.bytes().len()).collect()
}

#[test]
fn large_batches_are_moved_and_small_ones_fill_what_is_there() {
    assert_eq!(chunks_of(&[10]), [10]);
    assert_eq!(chunks_of(&[10, 20, 30]), [60]);
    assert_eq!(chunks_of(&[CHUNK_MAX, CHUNK_MAX]), [CHUNK_MAX, CHUNK_MAX]);
    assert_eq!(chunks_of(&[100, CHUNK_MAX / 2, 100]), [100, CHUNK_MAX / 2 + 100]);
}

#[test]
fn many_small_batches_leave_no_half_empty_chunks() {
    let chunks = chunks_of(&[1000; 1000]);
    assert!(chunks.len() <= 1_000_000 / (CHUNK_MAX - 1000) + 1, "{chunks:?}");
}

fn policy(millis: u64) -> WritePolicy {
    WritePolicy { deadline: Duration::from_millis(millis), is_strict: false }
}

/// The runtime is told of room when much of a socket's buffer is free, and not at all before it waits.
#[tokio::test]
async fn a_socket_that_takes_a_little_is_written_to_when_time_is_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let link = Link::new(stream);
    let mut chunks = VecDeque::from([Chunk::Shared(Bytes::from(vec![b'x'; 64 << 20]))]);
    let mut skip = 0;
    link.tcp().writable().await.unwrap();
    assert_eq!(link.write(&mut chunks, &mut skip, How::WhenReady), Wrote::Blocked);
    let mut buffer = vec![0; 64 << 10];
    let mut taken = |how| {
        let before = skip;
        std::io::Read::read_exact(&mut reader, &mut buffer).unwrap();
        assert_eq!(link.write(&mut chunks, &mut skip, how), Wrote::Blocked);
        skip > before
    };
    assert!((0..4).all(|_| !taken(How::WhenReady)));
    assert!((0..200).any(|_| taken(How::Anyway)));
}

#[tokio::test]
async fn several_times_as_much_may_wait_for_a_route() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let link = Arc::new(Link::new(listener.accept().await.unwrap().0));
    for factor in [1, 4] {
        let outbound = Outbound::new(link.clone(), factor);
        let push = |bytes: usize| {
            let mut batch = vec![b'x'; bytes];
            outbound.take_in(Content::Owned(&mut batch), (1, 1), std::iter::empty(), 1000)
        };
        assert!(matches!(push(1000 * factor), Pushed::Queued { .. }));
        assert_eq!(push(1), Pushed::Full);
    }
}

#[tokio::test]
async fn a_failure_is_told_before_the_socket_is_shut() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let outbound = Arc::new(Outbound::new(Arc::new(Link::new(stream)), 1));
    outbound.push(&vec![b'x'; 32 << 20]);
    let (tell, told) = tokio::sync::oneshot::channel();
    let open = outbound.clone();
    outbound.flush(&Handle::current(), policy(10), move |failure| {
        let _ = tell.send((failure, open.state.lock().link.is_some()));
    });
    let (failure, was_open) = told.await.unwrap();
    let WriteFailure::Deadline(late) = failure else { panic!("{failure:?}") };
    assert!(was_open && late.chunks > 0 && (1..=32 << 20).contains(&late.bytes));
    let text =
        format!("WriteDeadline of 10ms exceeded with {} chunks of {} total bytes.", late.chunks, late.bytes);
    assert_eq!(late.to_string(), text);
    drop(deaf);
}

/// Everything before compression began goes out as it was, everything behind it in frames.
#[tokio::test]
async fn compression_begins_at_the_place_where_it_was_asked_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut reader = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let outbound = Arc::new(Outbound::new(Arc::new(Link::new(stream)), 1));
    outbound.push(b"plain ");
    outbound.push(b"INFO\r\n");
    outbound.compress(Level::Fast);
    let expected = b"packed line\r\n".repeat(300_000);
    for part in expected.chunks(50_000) {
        outbound.push(part);
    }
    assert_eq!(outbound.pending(), 12 + expected.len());
    outbound.flush(&Handle::current(), policy(10_000), |_| {});
    let reading = async {
        let (mut plain, mut decoder, mut got) = ([0; 12], linnet_s2::Decoder::default(), Vec::new());
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut plain).await.unwrap();
        let mut buffer = vec![0; 10_000];
        while got.len() < expected.len() {
            let count = tokio::io::AsyncReadExt::read(&mut reader, &mut buffer).await.unwrap();
            let mut input = &buffer[..count];
            while decoder.next(&mut input, &mut got).unwrap() {}
        }
        (plain, got)
    };
    let (plain, got) = tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
    assert_eq!(&plain, b"plain INFO\r\n");
    assert!(got == expected);
}

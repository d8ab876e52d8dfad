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

#[tokio::test]
async fn a_failure_is_told_before_the_socket_is_shut() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let outbound = Arc::new(Outbound::new(Arc::new(Link::new(stream))));
    outbound.push(&vec![b'x'; 32 << 20]);
    let (tell, told) = tokio::sync::oneshot::channel();
    let open = outbound.clone();
    outbound.flush(&Handle::current(), Duration::from_millis(10), move |failure| {
        let _ = tell.send((failure, open.state.lock().link.is_some()));
    });
    assert_eq!(told.await.unwrap(), (WriteFailure::Deadline, true));
    drop(deaf);
}

/// Everything before compression began goes out as it was, everything behind it in frames.
#[tokio::test]
async fn compression_begins_at_the_place_where_it_was_asked_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut reader = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let outbound = Arc::new(Outbound::new(Arc::new(Link::new(stream))));
    outbound.push(b"plain ");
    outbound.push(b"INFO\r\n");
    outbound.compress(Level::Fast);
    let expected = b"packed line\r\n".repeat(300_000);
    for part in expected.chunks(50_000) {
        outbound.push(part);
    }
    assert_eq!(outbound.pending(), 12 + expected.len());
    outbound.flush(&Handle::current(), Duration::from_secs(10), |_| {});
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

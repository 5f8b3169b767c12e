//! Batches over loopback, in both families.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use bytes::Bytes;
use sidetone_transport::udp::{RecvBatch, SLOTS, SendBatch, UdpOptions, UdpSocket};

fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap(), &UdpOptions::default()).unwrap()
}

async fn receive(
    socket: &UdpSocket,
    batch: &mut RecvBatch,
    want: usize,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut got = Vec::new();
    while got.len() < want {
        socket.readable().await.unwrap();
        socket.try_recv_batch(batch).unwrap();
        got.extend(batch.iter().map(|(remote, bytes)| (remote, bytes.to_vec())));
    }
    got
}

async fn exchange(address: &str) {
    let (near, far) = (bind(address), bind(address));
    near.writable().await.unwrap();
    let mut batch = RecvBatch::new();
    let mut out = SendBatch::default();
    for round in 0..3u8 {
        let count = [1, 5, 100][usize::from(round)];
        for i in 0..count {
            assert!(out.push(far.local_addr(), Bytes::from(vec![round, i])));
        }
        assert_eq!(out.try_flush(&near), usize::from(count));
        let got = receive(&far, &mut batch, usize::from(count)).await;
        let want: Vec<_> = (0..count)
            .map(|i| (near.local_addr(), vec![round, i]))
            .collect();
        assert_eq!(got, want);
    }
    assert_eq!(far.try_recv_batch(&mut batch).unwrap(), 0);
}

#[tokio::test]
async fn batches_keep_order_and_source_in_both_families() {
    exchange("127.0.0.1:0").await;
    exchange("[::1]:0").await;
}

#[tokio::test]
async fn one_receive_batch_serves_both_families_in_turn() {
    let mut batch = RecvBatch::new();
    for address in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0", "[::1]:0"] {
        let (near, far) = (bind(address), bind(address));
        near.writable().await.unwrap();
        let mut out = SendBatch::default();
        out.push(far.local_addr(), Bytes::from_static(b"x"));
        out.try_flush(&near);
        assert_eq!(
            receive(&far, &mut batch, 1).await,
            [(near.local_addr(), b"x".to_vec())]
        );
    }
}

#[tokio::test]
async fn readiness_is_seen_again_after_a_partial_and_after_a_full_batch() {
    let (near, far) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    near.writable().await.unwrap();
    let mut batch = RecvBatch::new();
    let mut out = SendBatch::default();
    for count in [1, SLOTS, SLOTS + 1, 2, 2 * SLOTS, 1] {
        (0..count).for_each(|_| assert!(out.push(far.local_addr(), Bytes::from_static(b"y"))));
        out.try_flush(&near);
        assert_eq!(receive(&far, &mut batch, count).await.len(), count);
    }
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), async {
        far.readable().await.unwrap();
        far.try_recv_batch(&mut batch).unwrap()
    });
    // Readiness may be reported once more after a batch that was exactly full.
    assert!(!matches!(nothing.await, Ok(n) if n > 0));
}

#[tokio::test]
async fn largest_datagram_and_empty_datagram_arrive_whole() {
    let (near, far) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    near.writable().await.unwrap();
    let mut out = SendBatch::default();
    out.push(far.local_addr(), Bytes::new());
    out.push(far.local_addr(), Bytes::from(vec![7; 65_507]));
    assert_eq!(out.try_flush(&near), 2);
    let got = receive(&far, &mut RecvBatch::new(), 2).await;
    assert_eq!((got[0].1.len(), got[1].1.len()), (0, 65_507));
    assert!(got[1].1.iter().all(|b| *b == 7));
}

#[tokio::test]
async fn a_refused_datagram_is_reported_and_holds_up_nothing() {
    let (near, far) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    near.writable().await.unwrap();
    let mut out = SendBatch::default();
    out.push(far.local_addr(), Bytes::from_static(b"a"));
    out.push(far.local_addr(), Bytes::from(vec![0; 70_000]));
    out.push(far.local_addr(), Bytes::from_static(b"b"));
    assert_eq!(out.try_flush(&near), 2);
    let failures = out.take_failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].remote, far.local_addr());
    assert_eq!(receive(&far, &mut RecvBatch::new(), 2).await.len(), 2);
}

#[tokio::test]
async fn a_full_batch_drops_and_counts() {
    let mut out = SendBatch::new(2, 10);
    let to = "127.0.0.1:9".parse().unwrap();
    assert!(out.push(to, Bytes::from_static(b"12345")));
    assert!(!out.push(to, Bytes::from_static(b"123456")));
    assert!(out.push(to, Bytes::from_static(b"12345")));
    assert!(!out.push(to, Bytes::new()));
    assert_eq!((out.len(), out.dropped()), (2, 2));
}

#[tokio::test]
async fn reuse_port_lets_two_sockets_share_an_address() {
    let first = bind("127.0.0.1:0");
    let second = UdpSocket::bind(first.local_addr(), &UdpOptions::default()).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    let alone = UdpOptions {
        reuse_port: false,
        ..UdpOptions::default()
    };
    assert!(UdpSocket::bind(first.local_addr(), &alone).is_err());
}

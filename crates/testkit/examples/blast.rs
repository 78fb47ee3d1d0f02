//! Datagrams as fast as a machine moves them, by the calls that the one-way link uses: trains through the kernel at once, a
//! large receive buffer; nothing is numbered, sealed, repaired, hashed or written. What a link can reach at most.
//!
//!     blast receive ADDR:PORT              says `ready`, then how many bytes came in how many seconds
//!     blast send ADDR:PORT BYTES SECONDS   datagrams of so many bytes for so long; says how many bytes it sent
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only")]

use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

/// As `oneway::link` has it.
const TRAIN_BYTES_MAX: usize = 62 << 10;
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;
const TRAIN_ROOM_BYTES: usize = 64 << 10;

/// How long nothing comes before the first datagram, and after the last.
const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_secs(1);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["receive", at] => receive(at.parse().unwrap()),
        ["send", to, bytes, seconds] => {
            let long = Duration::from_secs_f64(seconds.parse().unwrap());
            send(to.parse().unwrap(), bytes.parse().unwrap(), long);
        }
        _ => panic!("see the head of this file"),
    }
}

fn ready(socket: &UdpSocket, what: PollFlags, most: Duration) -> bool {
    let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
    poll(&mut [PollFd::new(socket, what)], Some(&most)).unwrap() > 0
}

fn send(to: SocketAddr, bytes: usize, long: Duration) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    let (began, mut sent) = (Instant::now(), 0_u64);
    while began.elapsed() < long {
        let at_once = (TRAIN_BYTES_MAX / bytes).clamp(1, state.max_gso_segments());
        let train = vec![7; at_once * bytes];
        let segment_size = (at_once > 1).then_some(bytes);
        let transmit = Transmit { destination: to, ecn: None, contents: &train, segment_size, src_ip: None };
        match state.try_send((&socket).into(), &transmit) {
            Ok(()) => sent += train.len() as u64,
            Err(e) if e.kind() == ErrorKind::WouldBlock => drop(ready(&socket, PollFlags::OUT, QUIET)),
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                std::thread::sleep(Duration::from_micros(200));
            }
            // The kernel takes no trains: one datagram at a time from now on.
            Err(_) if segment_size.is_some() && state.max_gso_segments() == 1 => {}
            Err(e) => panic!("{e}"),
        }
    }
    println!("{sent} {}", began.elapsed().as_secs_f64());
}

fn receive(at: SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
    }
    println!("ready");
    let mut room = vec![0; TRAIN_ROOM_BYTES * BATCH_SIZE];
    let mut meta = [RecvMeta::default(); BATCH_SIZE];
    let (mut bytes, mut began, mut last) = (0_u64, None, Instant::now());
    while ready(&socket, PollFlags::IN, if began.is_some() { QUIET } else { PATIENCE }) {
        let mut rooms: Vec<IoSliceMut<'_>> = room.chunks_mut(TRAIN_ROOM_BYTES).map(IoSliceMut::new).collect();
        let Ok(count) = state.recv((&socket).into(), &mut rooms, &mut meta) else { continue };
        last = Instant::now();
        // What came first is where the clock starts, and is not counted.
        match began {
            None => began = Some(last),
            Some(_) => bytes += meta.iter().take(count).map(|meta| meta.len as u64).sum::<u64>(),
        }
    }
    let seconds = began.map_or(0.0, |began| (last - began).as_secs_f64());
    println!("{bytes} {seconds}");
}

//! A relay between the two ends of a one-way link, which does with packets what links and enemies do.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A relay that runs until it is dropped.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Hands each packet to `each`, with what sends packets on.
    pub fn start(to: SocketAddr, each: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), to, each)
    }

    /// The same at an address.
    pub fn start_at(
        at: SocketAddr,
        to: SocketAddr,
        mut each: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 32 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((n, _)) = socket.recv_from(&mut packet) else { continue };
                each(&packet[..n], &mut |packet| drop(socket.send_to(packet, to)));
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// A link that loses so many of a thousand packets at random, everything for `gap` every half second, lets every
    /// third packet be overtaken by those up to eight behind it, and sends every fifth twice.
    pub fn bad(to: SocketAddr, lost_per_mille: u64, gap: Duration, disorders: bool) -> Self {
        Self::bad_at("127.0.0.1:0".parse().unwrap(), to, lost_per_mille, gap, disorders)
    }

    /// The same at an address.
    pub fn bad_at(
        at: SocketAddr,
        to: SocketAddr,
        lost_per_mille: u64,
        gap: Duration,
        disorders: bool,
    ) -> Self {
        let (mut random, mut late, mut n) = (0x9e37_79b9_7f4a_7c15_u64, Vec::<Vec<u8>>::new(), 0_u64);
        let began = Instant::now();
        Self::start_at(at, to, move |packet, send| {
            n += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let phase = began.elapsed().as_millis() % 500;
            if (random >> 33) % 1000 < lost_per_mille || phase > 400 && phase <= 400 + gap.as_millis() {
                return;
            }
            if !disorders {
                return send(packet);
            }
            if n.is_multiple_of(3) {
                late.push(packet.to_vec());
            } else {
                send(packet);
            }
            if n.is_multiple_of(5) {
                send(packet);
            }
            if late.len() > 8 {
                late.drain(..).rev().for_each(|packet| send(&packet));
            }
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

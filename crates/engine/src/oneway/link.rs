//! The sockets. Several packets go through the kernel at once where it can (`quinn-udp`: segmentation offload, `recvmmsg`).

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt;

use crate::error::{Error, Result};

/// The most that goes through the kernel at once, in bytes.
const TRAIN_BYTES_MAX: usize = 62 << 10;
/// Receive buffer that is asked for, in bytes: a fifth of a second at 2.5 Gbit/s.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;
/// Bytes that one receive call takes from one train of packets.
const TRAIN_ROOM_BYTES: usize = 64 << 10;
/// Link MTU that nothing larger is made of, in bytes.
const MTU_MAX: u32 = 9000;

/// The socket address that `udp://HOST:PORT` names.
pub(super) fn address(url: &str) -> Result<SocketAddr> {
    let wrong = |why: String| {
        Error::usage(format!("`{url}` is no address of a one-way link: {why}")).hint("write udp://HOST:PORT")
    };
    let place =
        url.strip_prefix("udp://").ok_or_else(|| wrong("it does not begin with udp://".to_owned()))?;
    let mut found = place.to_socket_addrs().map_err(|e| wrong(e.to_string()))?;
    found.next().ok_or_else(|| wrong("it has no address".to_owned()))
}

fn network(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |e| Error::fault(format!("{what}: {e}")).hint("check the network of this station, then run it again")
}

/// The sending end.
pub(super) struct Outgoing {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
    train: Vec<u8>,
    packet_bytes: usize,
}

impl Outgoing {
    /// Opens a socket to an address.
    pub fn open(to: SocketAddr) -> Result<Self> {
        let own: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((own, 0)).map_err(network("a socket cannot be opened"))?;
        let state = UdpSocketState::new((&socket).into()).map_err(network("a socket cannot be set up"))?;
        Ok(Self { socket, state, to, train: Vec::new(), packet_bytes: 1 })
    }

    /// The MTU of the way to the address, as far as this machine knows it.
    pub fn mtu(&self) -> Result<u32> {
        let own: IpAddr = if self.to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let known = || {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect(self.to)?;
            let mtu = if self.to.is_ipv4() { sockopt::ip_mtu(&socket) } else { sockopt::ipv6_mtu(&socket) };
            Ok(mtu?.min(MTU_MAX))
        };
        known().map_err(network(&format!("there is no way to {}", self.to)))
    }

    /// Packets of this size come from now on. Gives how many go at once.
    pub fn of_size(&mut self, packet_bytes: usize) -> usize {
        self.packet_bytes = packet_bytes.max(1);
        self.at_once()
    }

    fn at_once(&self) -> usize {
        (TRAIN_BYTES_MAX / self.packet_bytes).clamp(1, self.state.max_gso_segments())
    }

    /// Where the next packet is written; the one before stays.
    pub fn train(&mut self) -> &mut Vec<u8> {
        &mut self.train
    }

    /// Whether as many packets wait as go at once.
    pub fn is_full(&self) -> bool {
        self.train.len() >= self.at_once() * self.packet_bytes
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.train.len() / self.packet_bytes
    }

    /// Sends what waits.
    pub fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while sent < self.train.len() {
            let end = self.train.len().min(sent + self.at_once() * self.packet_bytes);
            let contents = self.train.get(sent..end).unwrap_or_default();
            let segment_size = (contents.len() > self.packet_bytes).then_some(self.packet_bytes);
            let transmit = Transmit { destination: self.to, ecn: None, contents, segment_size, src_ip: None };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => sent = end,
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait()?,
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                // The kernel takes no trains: `at_once` says one from now on.
                Err(_) if segment_size.is_some() && self.at_once() == 1 => {}
                Err(e) => {
                    let what =
                        format!("a packet of {} bytes cannot be sent to {}", self.packet_bytes, self.to);
                    return Err(network(&what)(e).hint(
                        "check address, route and neighbour entry of the link, and that --mtu is not more than its MTU",
                    ));
                }
            }
        }
        self.train.clear();
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        readiness(&self.socket, PollFlags::OUT, Duration::from_secs(1)).map(|_| ())
    }
}

fn readiness(socket: &UdpSocket, what: PollFlags, most: Duration) -> Result<bool> {
    let mut ends = [PollFd::new(socket, what)];
    let most =
        rustix::event::Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
    match poll(&mut ends, Some(&most)) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(network("a socket cannot be waited for")(e.into())),
    }
}

/// The receiving end.
pub(super) struct Incoming {
    socket: UdpSocket,
    state: UdpSocketState,
    room: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
}

impl Incoming {
    /// Listens.
    pub fn open(at: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(at).map_err(|e| {
            Error::fault(format!("{at} cannot be listened at: {e}"))
                .hint("give an address of this machine at which nothing else listens")
        })?;
        let state = UdpSocketState::new((&socket).into()).map_err(network("a socket cannot be set up"))?;
        // More than the system's limit takes a right that not everybody has; then as much as is allowed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
        }
        let room = vec![0; TRAIN_ROOM_BYTES * BATCH_SIZE];
        Ok(Self { socket, state, room, meta: [RecvMeta::default(); BATCH_SIZE] })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(network("a socket has no address"))
    }

    /// Bytes that the system holds for this socket while nobody reads.
    pub fn buffer_bytes(&self) -> usize {
        // The system counts its own work in.
        sockopt::socket_recv_buffer_size(&self.socket).unwrap_or(0) / 2
    }

    /// Waits for packets for so long, and hands on all that are there.
    pub fn packets(&mut self, most: Duration, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if !readiness(&self.socket, PollFlags::IN, most)? {
            return Ok(());
        }
        let mut rooms: Vec<IoSliceMut<'_>> =
            self.room.chunks_mut(TRAIN_ROOM_BYTES).map(IoSliceMut::new).collect();
        let count = match self.state.recv((&self.socket).into(), &mut rooms, &mut self.meta) {
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(network("packets cannot be read")(e)),
        };
        for (train, meta) in rooms.iter().zip(&self.meta).take(count) {
            for packet in train.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
                each(packet)?;
            }
        }
        Ok(())
    }
}

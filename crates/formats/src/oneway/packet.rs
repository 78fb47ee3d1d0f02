//! The packet. All numbers are big-endian; every packet of a session has the same size.
//!
//! ```text
//!   at  bytes
//!    0   4   "ALW1"
//!    4   1   kind: 1 symbol, 2 beat
//!    5   1   0
//!    6   2   symbol: 0..K are pieces as they are, K..K+R are for repair
//!    8   4   sender: the first bytes of the SHA-256 of its public key
//!   12   4   block; the highest bit says that it belongs to the opening document
//!   16   8   session: grows with each sending of a station
//!   24   8   salt: random for each session
//!   32   8   sequence: 0, 1, 2, ... over all packets of the session
//!   40   2   K: pieces in the block        (0 in a beat)
//!   42   2   R: repair symbols             (0 in a beat)
//!   44   2   D: blocks that are sent in turn (0 in a beat)
//!   46   2   S: bytes of the body, a multiple of 64
//!   48   S   body: a symbol (see `piece`), or a beat (see `beat`)
//!   48+S 16  tag: AES-256-GMAC over all before it, the nonce being 4 zero bytes and the sequence
//! ```
//!
//! The key of the tag is made by both sides from what each holds already: X25519 between the sender's and the receiver's
//! station keys, through HKDF-SHA256 with session and salt. A key serves one session, so that no nonce comes twice.

/// What a packet begins with.
pub const MAGIC: [u8; 4] = *b"ALW1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of the tag.
pub const TAG_BYTES: usize = 16;
/// The body is a multiple of this many bytes.
pub const BODY_STEP_BYTES: usize = 64;
/// Largest body, in bytes: what fits jumbo frames of 9,000 under IPv6.
pub const BODY_BYTES_MAX: usize = 8832;
/// Smallest body, in bytes.
pub const BODY_BYTES_MIN: usize = 512;
/// Most pieces of a block, and most repair symbols.
pub const SYMBOLS_MAX: u16 = 1024;
/// Most blocks that are sent in turn.
pub const DEPTH_MAX: u16 = 1024;
/// The bit of a block's number that says that it belongs to the opening document.
pub const DOCUMENT_BIT: u32 = 1 << 31;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One symbol of a block.
    Symbol,
    /// What is being sent, and how far it is.
    Beat,
}

/// How a block is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pieces in it.
    pub originals: u16,
    /// Repair symbols.
    pub repair: u16,
    /// Bytes of each symbol.
    pub symbol_bytes: u16,
}

impl Shape {
    /// Pieces and repair symbols together.
    pub const fn symbols(self) -> usize {
        self.originals as usize + self.repair as usize
    }

    /// Bytes of all pieces.
    pub const fn bytes(self) -> usize {
        self.originals as usize * self.symbol_bytes as usize
    }
}

/// One sending: who, which, and under which salt its keys are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The first bytes of the SHA-256 of the sender's public key.
    pub sender: [u8; 4],
    /// Grows with each sending of a station.
    pub number: u64,
    /// Random.
    pub salt: [u8; 8],
}

/// The header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it carries.
    pub kind: Kind,
    /// Which symbol of the block.
    pub symbol: u16,
    /// The block.
    pub block: u32,
    /// The sending.
    pub session: Session,
    /// The place in the session.
    pub sequence: u64,
    /// The block's shape; of a beat only the bytes count.
    pub shape: Shape,
    /// Blocks that are sent in turn.
    pub depth: u16,
}

impl Header {
    /// Bytes of a packet of this shape.
    pub const fn packet_bytes(&self) -> usize {
        HEADER_BYTES + self.shape.symbol_bytes as usize + TAG_BYTES
    }

    /// The header's bytes.
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&[if self.kind == Kind::Symbol { 1 } else { 2 }, 0]);
        put(&self.symbol.to_be_bytes());
        put(&self.session.sender);
        put(&self.block.to_be_bytes());
        put(&self.session.number.to_be_bytes());
        put(&self.session.salt);
        put(&self.sequence.to_be_bytes());
        put(&self.shape.originals.to_be_bytes());
        put(&self.shape.repair.to_be_bytes());
        put(&self.depth.to_be_bytes());
        put(&self.shape.symbol_bytes.to_be_bytes());
        out
    }

    /// Reads the header of a whole packet, which must be as long as the header says. `None` for anything that no sender
    /// writes.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = packet.first_chunk()?;
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let eight = |at: usize| {
            let mut out = [0; 8];
            out.copy_from_slice(&bytes[at..at + 8]);
            out
        };
        let kind = match (four(0), bytes[4], bytes[5]) {
            (MAGIC, 1, 0) => Kind::Symbol,
            (MAGIC, 2, 0) => Kind::Beat,
            _ => return None,
        };
        let header = Self {
            kind,
            symbol: two(6),
            block: u32::from_be_bytes(four(12)),
            session: Session { sender: four(8), number: u64::from_be_bytes(eight(16)), salt: eight(24) },
            sequence: u64::from_be_bytes(eight(32)),
            shape: Shape { originals: two(40), repair: two(42), symbol_bytes: two(46) },
            depth: two(44),
        };
        (header.is_sound() && packet.len() == header.packet_bytes()).then_some(header)
    }

    fn is_sound(&self) -> bool {
        let shape = self.shape;
        let body = usize::from(shape.symbol_bytes);
        if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&body) || !body.is_multiple_of(BODY_STEP_BYTES) {
            return false;
        }
        match self.kind {
            Kind::Symbol => {
                (1..=SYMBOLS_MAX).contains(&shape.originals)
                    && (1..=SYMBOLS_MAX).contains(&shape.repair)
                    && (1..=DEPTH_MAX).contains(&self.depth)
                    && usize::from(self.symbol) < shape.symbols()
            }
            Kind::Beat => {
                [shape.originals, shape.repair, self.depth, self.symbol] == [0; 4] && self.block == 0
            }
        }
    }
}

/// The body of a whole packet whose header was read.
pub fn body(packet: &[u8]) -> &[u8] {
    packet.get(HEADER_BYTES..packet.len().saturating_sub(TAG_BYTES)).unwrap_or_default()
}

/// The largest body that fits packets of a link with this MTU, in bytes, whatever headers IP needs.
pub fn body_bytes(mtu: u32) -> Option<u16> {
    const IPV6_AND_UDP_BYTES: usize = 48;
    let room = usize::try_from(mtu).ok()?.checked_sub(IPV6_AND_UDP_BYTES + HEADER_BYTES + TAG_BYTES)?;
    let body = room.min(BODY_BYTES_MAX) / BODY_STEP_BYTES * BODY_STEP_BYTES;
    (body >= BODY_BYTES_MIN).then_some(body)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            kind: Kind::Symbol,
            symbol: 3,
            block: 0x0102_0304,
            session: Session { sender: [9; 4], number: 77, salt: [8; 8] },
            sequence: 5,
            shape: Shape { originals: 512, repair: 96, symbol_bytes: 512 },
            depth: 24,
        }
    }

    fn packet(header: &Header) -> Vec<u8> {
        let mut out = header.write().to_vec();
        out.resize(header.packet_bytes(), 0);
        out
    }

    #[test]
    fn golden_bytes_of_a_header() {
        let text: String = sample().write().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            text,
            "414c573101000003090909090102030400000000000000\
             4d08080808080808080000000000000005020000600018\
             0200"
        );
        assert_eq!(Header::read(&packet(&sample())), Some(sample()));
        let zero = Shape { originals: 0, repair: 0, symbol_bytes: 512 };
        let beat = Header { kind: Kind::Beat, symbol: 0, block: 0, shape: zero, depth: 0, ..sample() };
        assert_eq!(Header::read(&packet(&beat)), Some(beat));
    }

    #[test]
    fn what_no_sender_writes_is_no_packet() {
        let good = sample();
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = good;
            change(&mut header);
            Header::read(&packet(&header))
        };
        assert_eq!(with(&|_| ()), Some(good));
        assert_eq!(with(&|h| h.symbol = 608), None);
        assert_eq!(with(&|h| h.shape.originals = 0), None);
        assert_eq!(with(&|h| h.shape.originals = SYMBOLS_MAX + 1), None);
        assert_eq!(with(&|h| h.shape.repair = 0), None);
        assert_eq!(with(&|h| h.shape.repair = SYMBOLS_MAX + 1), None);
        assert_eq!(with(&|h| h.depth = 0), None);
        assert_eq!(with(&|h| h.depth = DEPTH_MAX + 1), None);
        assert_eq!(with(&|h| h.shape.symbol_bytes = 448), None);
        assert_eq!(with(&|h| h.shape.symbol_bytes = 513), None);
        assert_eq!(with(&|h| h.shape.symbol_bytes = 8896), None);
        assert_eq!(with(&|h| h.kind = Kind::Beat), None);
        for end in 0..packet(&good).len() {
            assert_eq!(Header::read(&packet(&good)[..end]), None);
        }
        let mut longer = packet(&good);
        longer.push(0);
        assert_eq!(Header::read(&longer), None);
        for at in [0, 4, 5] {
            let mut other = packet(&good);
            other[at] = 9;
            assert_eq!(Header::read(&other), None);
        }
    }

    #[test]
    fn packets_fit_the_link() {
        assert_eq!(body_bytes(9000), Some(8832));
        assert_eq!(body_bytes(65536), Some(8832));
        assert_eq!(body_bytes(1500), Some(1344));
        assert_eq!(body_bytes(624), Some(512));
        assert_eq!(body_bytes(623), None);
        assert_eq!(body_bytes(0), None);
    }
}

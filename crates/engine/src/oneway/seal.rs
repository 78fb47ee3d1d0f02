//! Whose packets are believed.
//!
//! Sender and receiver know each other's station keys from their trust; X25519 between the two gives both the same secret, and
//! nothing secret travels. HKDF-SHA256 makes of it one key for each session and direction. A tag is AES-256-GMAC (25 GB/s
//! on a core of the machine that this was made on, HMAC-SHA256 2.1).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

use airlock_core::id::Digest;
use airlock_formats::oneway::packet::{Session, TAG_BYTES};

use crate::error::{Error, Result};
use crate::keys::StationKey;

/// What the keys are for.
const PURPOSE: &[u8] = b"airlock one-way 1";

/// The two ends of a link, as one of them knows it.
#[derive(Clone)]
pub(super) struct Pair {
    sender: [u8; 32],
    receiver: [u8; 32],
    shared: [u8; 32],
}

impl Pair {
    /// This station sends to another one.
    pub fn sending(own: &StationKey, receiver: [u8; 32]) -> Result<Self> {
        let shared = own.agree(&receiver).ok_or_else(|| {
            Error::usage("no secret can be agreed upon with the recipient's key")
                .hint("give another station.pub")
        })?;
        Ok(Self { sender: own.public(), receiver, shared })
    }

    /// This station receives from another one; none for a key with which no secret can be agreed upon.
    pub fn receiving(own: &StationKey, sender: [u8; 32]) -> Option<Self> {
        Some(Self { sender, receiver: own.public(), shared: own.agree(&sender)? })
    }

    /// The name of the sender in packets.
    pub fn sender_id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = *Digest::of(&self.sender).as_bytes();
        [a, b, c, d]
    }

    /// The key of one session.
    pub fn seal(&self, session: &Session) -> Option<Seal> {
        let salt = [&session.number.to_be_bytes()[..], &session.salt].concat();
        let secret = Salt::new(HKDF_SHA256, &salt).extract(&self.shared);
        let info = [PURPOSE, &self.sender, &self.receiver];
        let key = secret.expand(&info, &AES_256_GCM).ok()?;
        Some(Seal(LessSafeKey::new(UnboundKey::from(key))))
    }
}

/// The key of one session.
pub(super) struct Seal(LessSafeKey);

impl Seal {
    fn nonce(sequence: u64) -> Nonce {
        let mut bytes = [0; NONCE_LEN];
        bytes[NONCE_LEN - 8..].copy_from_slice(&sequence.to_be_bytes());
        Nonce::assume_unique_for_key(bytes)
    }

    /// The tag of a packet without its tag. A sequence may be sealed once.
    pub fn tag(&self, sequence: u64, packet: &[u8]) -> Result<[u8; TAG_BYTES]> {
        let tag = self.0.seal_in_place_separate_tag(Self::nonce(sequence), Aad::from(packet), &mut []);
        let tag = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
        tag.ok_or_else(|| Error::fault("a packet cannot be sealed"))
    }

    /// Whether a whole packet ends with the tag that its bytes have.
    pub fn fits(&self, sequence: u64, packet: &[u8]) -> bool {
        let Some((bytes, tag)) = packet.split_last_chunk::<TAG_BYTES>() else { return false };
        let mut tag = *tag;
        self.0.open_in_place(Self::nonce(sequence), Aad::from(bytes), &mut tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_ends_agree_and_only_in_one_direction_and_session() {
        let dir = tempfile::tempdir().unwrap();
        let [low, high, other] =
            ["low", "high", "other"].map(|name| StationKey::create(&dir.path().join(name)).unwrap());
        let session = Session { sender: [0; 4], number: 1, salt: [5; 8] };
        let sealed = |pair: &Pair, session: &Session| {
            let tag = pair.seal(session).unwrap().tag(9, b"packet").unwrap();
            [&b"packet"[..], &tag].concat()
        };
        let packet = sealed(&Pair::sending(&low, high.public()).unwrap(), &session);
        let receiving =
            |key, from: &StationKey| Pair::receiving(key, from.public()).unwrap().seal(&session).unwrap();
        assert!(receiving(&high, &low).fits(9, &packet));
        assert!(!receiving(&high, &low).fits(10, &packet));
        assert!(!receiving(&high, &other).fits(9, &packet));
        assert!(!receiving(&other, &low).fits(9, &packet));
        assert!(!receiving(&low, &high).fits(9, &packet));
        let later = Session { number: 2, ..session };
        assert_ne!(packet, sealed(&Pair::sending(&low, high.public()).unwrap(), &later));
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(!receiving(&high, &low).fits(9, &changed), "{at}");
        }
    }

    #[test]
    fn a_key_that_gives_everybody_the_same_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = StationKey::create(dir.path()).unwrap();
        // The neutral element.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert!(Pair::receiving(&own, weak).is_none());
        assert!(Pair::sending(&own, weak).is_err());
    }
}

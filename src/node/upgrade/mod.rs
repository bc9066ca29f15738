//! What a connection becomes after IDENTIFY: TLS, then snappy or deflate, around its stream.
//!
//! The plain stream stays what it was; an upgrade wraps it once (tcp-protocol, section 7).

mod codec;
mod deflate;
mod handshake;
mod snappy;
mod tls;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use grapevine_protocol::{Negotiated, ServerSettings};
use rustls::ServerConfig;

use super::transport::Transport;

pub(crate) use codec::Packed;
pub(crate) use deflate::Deflate;
pub(crate) use handshake::{TlsSocket, accept};
pub(crate) use snappy::Snappy;
pub(crate) use tls::{client_config, server_config};

/// What stands between a client's frames and its socket, as `/stats` shows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layers {
    /// `None`: no TLS.
    pub tls: Option<TlsFacts>,
    /// Snappy, on top of TLS if there is any.
    pub is_snappy: bool,
    /// Deflate, on top of TLS if there is any.
    pub is_deflate: bool,
}

/// What a TLS handshake settled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFacts {
    /// `TLS1.2` or `TLS1.3`.
    pub version: &'static str,
    /// The IANA name, as `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// Common name of the client's certificate; empty without one.
    pub common_name: String,
}

impl Layers {
    pub(crate) const fn add(&mut self, compression: Compression) {
        match compression {
            Compression::Snappy => self.is_snappy = true,
            Compression::Deflate(_) => self.is_deflate = true,
        }
    }

    /// What IDENTIFY can still negotiate: every kind of layer is put on once, so that a client
    /// cannot stack them without end. Asked again, the answer is false.
    pub(crate) fn offer<'a>(&self, server: &'a ServerSettings) -> Cow<'a, ServerSettings> {
        let is_packed = self.is_snappy || self.is_deflate;
        if self.tls.is_none() && !is_packed {
            return Cow::Borrowed(server);
        }
        // TLS belongs below compression, so it cannot come after it.
        Cow::Owned(ServerSettings {
            tls_v1: false,
            snappy: server.snappy && !is_packed,
            deflate: server.deflate && !is_packed,
            ..server.clone()
        })
    }
}

/// The upgrades that follow an IDENTIFY, in their order.
#[derive(Debug)]
pub(crate) struct Upgrades {
    /// First: with this certificate.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Then, inside.
    pub(crate) compression: Option<Compression>,
}

/// A compression of both directions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    /// Snappy's framing format.
    Snappy,
    /// RFC 1951 at this level, 1 to 9.
    Deflate(u32),
}

impl Compression {
    /// Puts it around `transport`, from which `early` has been read already.
    pub(crate) fn wrap(self, transport: Transport, early: Bytes) -> Transport {
        match self {
            Self::Snappy => {
                Transport::Snappy(Box::new(Packed::new(transport, early, Snappy::new())))
            }
            Self::Deflate(level) => {
                Transport::Deflate(Box::new(Packed::new(transport, early, Deflate::new(level))))
            }
        }
    }
}

impl Upgrades {
    /// What was negotiated; `None` if nothing changes.
    pub(crate) fn of(negotiated: &Negotiated, tls: Option<&Arc<ServerConfig>>) -> Option<Self> {
        let compression = match (negotiated.snappy, negotiated.deflate) {
            (true, _) => Some(Compression::Snappy),
            (_, true) => {
                let level = u32::try_from(negotiated.deflate_level.clamp(1, 9)).unwrap_or(1);
                Some(Compression::Deflate(level))
            }
            (false, false) => None,
        };
        let tls = tls.filter(|_| negotiated.tls_v1).map(Arc::clone);
        (tls.is_some() || compression.is_some()).then_some(Self { tls, compression })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::BytesMut;
    use tokio::io::ReadBuf;

    use super::codec::Codec;
    use super::*;

    /// Contents that pack well, badly and not at all, shorter and longer than a chunk.
    pub(super) fn bodies() -> Vec<Vec<u8>> {
        let mut state = 7_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let words = b"one two three two one ".repeat(9_000);
        vec![b"x".to_vec(), vec![0; 200_000], words, noise.take(150_000).collect()]
    }

    /// Decodes all of `wire`, given in pieces of `piece` bytes, through a buffer of 1000.
    pub(super) fn decode_in_pieces(
        mut codec: impl Codec,
        wire: &[u8],
        piece: usize,
    ) -> io::Result<Vec<u8>> {
        let (mut incoming, mut plain) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(piece) {
            incoming.extend_from_slice(piece);
            loop {
                let mut room = [0; 1_000];
                let mut room = ReadBuf::new(&mut room);
                codec.decode(&mut incoming, &mut room)?;
                if room.filled().is_empty() {
                    break;
                }
                plain.extend_from_slice(room.filled());
            }
        }
        assert!(incoming.len() < 100_000, "no more is kept than one chunk");
        Ok(plain)
    }

    pub(super) fn decode_all(codec: impl Codec, wire: &[u8]) -> io::Result<Vec<u8>> {
        decode_in_pieces(codec, wire, wire.len())
    }

    #[test]
    fn every_kind_of_layer_is_offered_once() {
        let server =
            ServerSettings { tls_v1: true, snappy: true, deflate: true, ..Default::default() };
        let offer = |layers: Layers| {
            let offer = layers.offer(&server).into_owned();
            (offer.tls_v1, offer.snappy, offer.deflate)
        };
        let tls = Some(TlsFacts { version: "TLS1.3", ..TlsFacts::default() });
        assert_eq!(offer(Layers::default()), (true, true, true));
        assert_eq!(offer(Layers { tls, ..Default::default() }), (false, true, true));
        assert_eq!(offer(Layers { is_snappy: true, ..Default::default() }), (false, false, false));
        assert_eq!(offer(Layers { is_deflate: true, ..Default::default() }), (false, false, false));
    }
}

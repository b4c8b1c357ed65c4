//! HTTP/2 frame by frame, as no honest client would send it.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Of an answer to a PING or to SETTINGS.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Settings: most bytes of a stream that its receiver takes before it says more.
pub const INITIAL_WINDOW: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a GET.
#[must_use]
pub fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // :method GET and :scheme http of the static table, then literals that no table keeps.
    let mut block = vec![0x82, 0x86, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("gateway"));
    for (name, value) in headers {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    block
}

/// A string of HPACK, not compressed.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).expect("seven bits"));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("seven bits"));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Connects, and says so in HTTP/2; with a window for each stream.
///
/// # Errors
///
/// When nobody listens.
pub async fn connect(address: SocketAddr, window: u32) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    let setting = [&INITIAL_WINDOW.to_be_bytes()[..], &window.to_be_bytes()].concat();
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat()).await?;
    Ok(socket)
}

/// Reads a frame.
///
/// # Errors
///
/// When the connection has ended.
pub async fn read(socket: &mut (impl AsyncReadExt + Unpin)) -> Result<Frame> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length)?];
    socket.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}

/// Answers the pings of a connection until it ends, and says how it was told to.
pub async fn until_end(socket: &mut TcpStream) -> Option<Frame> {
    let mut goaway = None;
    while let Ok(came) = read(socket).await {
        match (came.kind, came.flags) {
            (PING, 0) if socket.write_all(&frame(PING, ACK, 0, &came.payload)).await.is_err() => break,
            (GOAWAY, _) => goaway = Some(came),
            _ => {}
        }
    }
    goaway
}

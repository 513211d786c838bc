//! As much of an HTTP/2 client (RFC 9113) as a load generator needs, so that it costs next to nothing beside the server that
//! it measures: requests are bytes made beforehand, and of an answer only the frames' headers are read.
//!
//! An answer counts as a success when a message came before its end: a gRPC server that refuses sends none.

use std::{collections::HashMap, io};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// What the server may send on the whole connection before it hears of us again; topped up at half of it.
const WINDOW: u32 = 1 << 30;
/// What both sides may send before they have heard of each other's windows.
const FIRST_WINDOW: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The headers of a call as HPACK (RFC 7541) writes them.
struct Headers {
    /// The first time: each is added to the connection's table.
    first: Vec<u8>,
    /// From then on: a byte for each.
    next: Vec<u8>,
}

impl Headers {
    fn new(path: &str, token: Option<&str>) -> Self {
        // `:method: POST` and `:scheme: http` stand in the static table.
        let mut first = vec![0x83, 0x86];
        let mut added = 0;
        let mut add = |name: &[u8], value: &str| {
            first.extend(name);
            first.push(u8::try_from(value.len()).expect("a short value"));
            first.extend(value.as_bytes());
            added += 1;
        };
        // A literal with incremental indexing, its name from the static table but for `te`.
        add(&[0x44], path);
        add(&[0x41], "localhost");
        add(&[0x5f], "application/grpc");
        add(b"\x40\x02te", "trailers");
        if let Some(token) = token {
            add(&[0x57], &format!("Bearer {token}"));
        }
        // The dynamic table begins at 62 with what was added last.
        let next =
            [0x83, 0x86].into_iter().chain((0..added).rev().map(|place| 0x80 | (62 + place))).collect();
        Self { first, next }
    }
}

/// One connection: what is to be sent, and which calls are under way.
pub struct Connection<T> {
    headers: Headers,
    out: Vec<u8>,
    calls: HashMap<u32, Call<T>>,
    next_stream: u32,
    send_window: i64,
    received: u32,
    /// What has arrived and is no whole frame yet.
    rest: Vec<u8>,
}

struct Call<T> {
    of: T,
    has_message: bool,
}

impl<T> Connection<T> {
    /// A connection for calls of that path.
    pub fn new(path: &str, token: Option<&str>) -> Self {
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]); // no pushes
        frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            headers: Headers::new(path, token),
            out,
            calls: HashMap::new(),
            next_stream: 1,
            send_window: FIRST_WINDOW,
            received: 0,
            rest: Vec::new(),
        }
    }

    /// Sends a message; its end is told with `of`.
    pub fn call(&mut self, of: T, message: &[u8]) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = if stream == 1 { &self.headers.first } else { &self.headers.next };
        frame(&mut self.out, HEADERS, END_HEADERS, stream, headers);
        let length = u32::try_from(message.len()).expect("a short message");
        frame_header(&mut self.out, DATA, END_STREAM, stream, length + 5);
        self.out.push(0); // not compressed
        self.out.extend(length.to_be_bytes());
        self.out.extend(message);
        self.send_window -= i64::from(length) + 5;
        assert!(self.send_window >= 0, "the server takes too little at a time for so many calls");
        self.calls.insert(stream, Call { of, has_message: false });
    }

    /// What is to be written now.
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Reads what has arrived; `ended` hears of each call that was answered.
    pub fn read(&mut self, bytes: &[u8], mut ended: impl FnMut(T)) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend(bytes);
        let mut left = rest.as_slice();
        while let Some((header, behind)) = left.split_at_checked(FRAME_HEADER) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            self.frame(header[3], header[4], stream, payload, &mut ended)?;
            left = behind;
        }
        self.rest = left.to_vec();
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        ended: &mut impl FnMut(T),
    ) -> io::Result<()> {
        match kind {
            DATA => {
                self.received += u32::try_from(payload.len()).expect("a frame");
                if self.received > WINDOW / 2 {
                    let received = self.received.to_be_bytes();
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &received);
                    self.received = 0;
                }
                if let Some(call) = self.calls.get_mut(&stream) {
                    call.has_message = true;
                }
            }
            HEADERS if flags & END_STREAM != 0 => {
                let call = self.calls.remove(&stream).expect("an answer to a call");
                if !call.has_message {
                    return Err(io::Error::other("a call was refused"));
                }
                ended(call.of);
            }
            RST_STREAM | GOAWAY => return Err(io::Error::other("the server has ended it")),
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            WINDOW_UPDATE if stream == 0 => {
                let more = payload.try_into().map(u32::from_be_bytes).expect("four bytes");
                self.send_window += i64::from(more);
            }
            _ => {}
        }
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    frame_header(out, kind, flags, stream, u32::try_from(payload.len()).expect("a short frame"));
    out.extend(payload);
}

fn frame_header(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: u32) {
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
}

//! Plain HTTP by hand, byte for byte: what no well-behaved client would send.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::SURELY;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub async fn open(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    /// Says it, or as much of it as the other side wants to hear.
    pub async fn try_to_say(&mut self, bytes: &[u8]) {
        let _ = timeout(SURELY, self.0.get_mut().write_all(bytes)).await.expect("not to be held up");
    }

    /// The next answer; none when the connection ends instead.
    pub async fn answer(&mut self) -> Option<Answer> {
        timeout(SURELY, self.read()).await.expect("an answer, or an end")
    }

    async fn read(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // A reset is an end too.
            if self.0.read_line(&mut head).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head: head.to_lowercase(), body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// Waits until the other side has closed it, and said nothing more.
    pub async fn ends(&mut self) {
        assert!(self.answer().await.is_none());
    }
}

/// One exchange on a connection of its own.
pub async fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.try_to_say(request).await;
    connection.answer().await.unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(request)))
}

/// A request with these header lines beside `Host` and `Content-Length`.
pub fn post(path: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    request(&format!("POST {path} HTTP/1.1"), &[headers, &[length]].concat(), body)
}

/// A request with these header lines beside `Host`, and this body as it is.
pub fn request(line: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line}\r\nhost: cairld\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// The header line with a signature.
pub fn signed(signature: &str) -> String {
    format!("X-CAIRL-Signature: {signature}")
}

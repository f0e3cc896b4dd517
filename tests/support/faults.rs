//! A raw server for faults: it reads a request and then does what a script says, byte by byte, with or without TLS.
//!
//! It runs on threads of its own, so that a test's clock and a test's blocking wait change nothing about it. They end with
//! the server: there are hundreds in one run of the tests, and each holds files that are open.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What happens after a request was read.
#[derive(Clone, Debug)]
pub enum Fault {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes, then silence.
    Hang(Vec<u8>),
    /// These bytes, then one more every so often.
    Drip(Vec<u8>, Duration),
    /// These bytes, then the second ones again and again.
    Flood(Vec<u8>, Vec<u8>),
    /// A reset instead of an answer.
    Reset,
    /// Another fault by what the request's first line holds; the last one is for all else.
    ByPath(Vec<(String, Fault)>),
    /// One good answer in a connection that stays open, then its silent end: the next request finds it closed.
    OnceThenClose(Vec<u8>),
}

/// How the server shows who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// Plain HTTP.
    Plain,
    /// A certificate that is right in every way.
    Good,
    /// One that is a year too old.
    Expired,
    /// One that begins next century.
    Early,
    /// One for another host.
    OtherName,
    /// One that only itself vouches for.
    SelfSigned,
    /// Plain HTTP where TLS is expected.
    NoTls,
    /// TLS that ends in the middle of the handshake.
    Broken,
    /// Never says a word of TLS.
    Mute,
}

/// Whether the server has ended, for whoever waits for that.
#[derive(Default)]
struct End(Mutex<bool>, Condvar);

impl End {
    fn is_now(&self) -> bool {
        *self.0.lock().unwrap()
    }

    fn wait(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |ended| !*ended).unwrap());
    }

    fn come(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// A running server. It ends when it is dropped, and with it what hangs there.
pub struct FaultServer {
    pub port: u16,
    pub identity: Identity,
    /// The CA that vouches for it, as PEM.
    pub ca_pem: String,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<Mutex<Vec<String>>>,
    /// How often it has fallen silent.
    pub hangs: Arc<AtomicUsize>,
    end: Arc<End>,
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.end.come();
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // it waits for somebody
    }
}

impl FaultServer {
    pub fn start(identity: Identity, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tls, ca_pem) = certificate(identity);
        let (fault, requests, hangs) = (Arc::new(Mutex::new(fault)), Arc::default(), Arc::default());
        let (end, hanging) = (Arc::<End>::default(), Arc::clone(&hangs));
        let server = Self { port, identity, ca_pem, fault: Arc::clone(&fault), requests, hangs: hanging, end };
        let (requests, end) = (Arc::clone(&server.requests), Arc::clone(&server.end));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).take_while(|_| !end.is_now()) {
                let (fault, tls) = (Arc::clone(&fault), tls.clone());
                let (requests, hangs, end) = (Arc::clone(&requests), Arc::clone(&hangs), Arc::clone(&end));
                std::thread::spawn(move || {
                    let connection = Connection { fault, requests, hangs, end };
                    connection.serve(stream, identity, tls);
                });
            }
        });
        server
    }

    pub fn plain(fault: Fault) -> Self {
        Self::start(Identity::Plain, fault)
    }

    pub fn base(&self) -> String {
        match self.identity {
            Identity::Plain => format!("http://127.0.0.1:{}", self.port),
            _ => format!("https://localhost:{}", self.port),
        }
    }

    /// What it does from now on.
    pub fn become_(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The requests so far, heads and bodies.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

struct Connection {
    fault: Arc<Mutex<Fault>>,
    requests: Arc<Mutex<Vec<String>>>,
    hangs: Arc<AtomicUsize>,
    end: Arc<End>,
}

impl Connection {
    fn serve(&self, mut stream: TcpStream, identity: Identity, tls: Option<Arc<ServerConfig>>) {
        match (identity, tls) {
            (Identity::Mute, _) => self.hang(),
            (Identity::Broken, _) => {
                let _ = stream.read(&mut [0; 64]);
            }
            (Identity::NoTls, _) => {
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(&http("400 Bad Request", &[], "The plain HTTP port does not speak TLS."));
            }
            (_, Some(config)) => {
                let closer = stream.try_clone().unwrap();
                let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                self.answer(&mut tls, &closer);
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
            (_, None) => {
                let closer = stream.try_clone().unwrap();
                self.answer(&mut stream, &closer);
            }
        }
    }

    fn answer(&self, stream: &mut (impl Read + Write), socket: &TcpStream) {
        let Some(request) = hear(stream) else { return };
        let line = request.lines().next().unwrap_or_default().to_owned();
        self.requests.lock().unwrap().push(request);
        let mut fault = self.fault.lock().unwrap().clone();
        while let Fault::ByPath(routes) = fault {
            let fits = routes.iter().find(|(part, _)| line.contains(part.as_str()));
            fault = fits.or(routes.last()).map(|(_, fault)| fault.clone()).unwrap();
        }
        match fault {
            Fault::ByPath(_) => {}
            Fault::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            }
            Fault::Hang(bytes) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                self.hang();
            }
            Fault::Drip(bytes, pause) => {
                let _ = stream.write_all(&bytes);
                self.hangs.fetch_add(1, Ordering::SeqCst);
                while stream.write_all(b" ").and_then(|()| stream.flush()).is_ok() {
                    std::thread::sleep(pause);
                }
            }
            Fault::Flood(bytes, more) => {
                let _ = stream.write_all(&bytes);
                while stream.write_all(&more).is_ok() {}
            }
            Fault::Reset => {
                // Unread input turns a close into a reset; a second connection half is not needed for it.
                let _ = stream.write_all(b"HTTP/1.1 2");
                let _ = socket.shutdown(Shutdown::Both);
            }
            Fault::OnceThenClose(bytes) => {
                let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
                // The next request is taken, and never answered.
                if let Some(request) = hear(stream) {
                    self.requests.lock().unwrap().push(request);
                }
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    fn hang(&self) {
        self.hangs.fetch_add(1, Ordering::SeqCst);
        self.end.wait();
    }
}

/// One request with its body; `None` if the other side left first.
fn hear(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn certificate(identity: Identity) -> (Option<Arc<ServerConfig>>, String) {
    if matches!(identity, Identity::Plain) {
        return (None, String::new());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let name = if identity == Identity::OtherName { "elsewhere.example.com" } else { "localhost" };
    let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
    match identity {
        Identity::Expired => {
            own.not_before = rcgen::date_time_ymd(2001, 1, 1);
            own.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        Identity::Early => own.not_before = rcgen::date_time_ymd(2101, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match identity {
        Identity::SelfSigned => own.self_signed(&key).unwrap(),
        _ => own.signed_by(&key, &issuer).unwrap(),
    };
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (Some(Arc::new(config)), ca_pem)
}

/// A whole answer with a body and its length.
pub fn http(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A whole answer as `CertCentral` gives it.
pub fn ok(body: impl AsRef<[u8]>) -> Fault {
    Fault::Bytes(http("200 OK", &["Content-Type: application/json"], body))
}

/// An answer with a status and a JSON error.
pub fn status(status: &str, headers: &[&str], body: &str) -> Fault {
    Fault::Bytes(http(status, headers, body))
}

/// An address where nobody listens.
pub fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

/// A gzip stream of so many MiB of spaces, far below a hundredth of that long.
pub fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut free) = (0u8, 8u8);
    let mut put = |code: u32, length: u32, bytes: &mut Vec<u8>| {
        for at in (0..length).rev() {
            bits = (bits >> 1) | (u8::try_from(code >> at & 1).unwrap() << 7);
            free -= 1;
            if free == 0 {
                bytes.push(bits);
                (bits, free) = (0, 8);
            }
        }
    };
    put(0b1_10, 3, &mut bytes); // the last block, fixed codes
    put(0x30 + 0x20, 8, &mut bytes); // a space
    for _ in 0..mebibytes * 1024 * 1024 / 258 {
        put(0b1100_0101, 8, &mut bytes); // 258 more, ...
        put(0, 5, &mut bytes); // ... the same as the one before
    }
    put(0, 7, &mut bytes);
    put(0, 7, &mut bytes);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

//! A small real SMTP server on loopback: scripted replies, hangs, implicit TLS and STARTTLS, and a record of every
//! conversation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Instead of a reply: falls silent.
pub const HANG: &str = "(silence)";
/// Instead of a reply: closes the connection.
pub const CLOSE: &str = "(the end)";

/// Behaviour of the server. The default accepts everything in plaintext.
#[derive(Clone)]
pub struct Script {
    /// Greeting; `None` accepts the connection and never greets.
    pub greeting: Option<String>,
    /// Extensions offered in reply to EHLO.
    pub extensions: Vec<String>,
    /// Unusual replies to EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, `.` and QUIT. [`HANG`] falls silent and [`CLOSE`]
    /// closes the connection. A reply to AUTH may be for one mechanism (`AUTH LOGIN`). Several replies are separated by ` |
    /// `: the first to the command, the others to the lines that follow it.
    pub replies: BTreeMap<&'static str, String>,
    /// Replies to RCPT by address that are not `250`.
    pub recipients: BTreeMap<String, String>,
    /// Maximum number of recipients of one transaction, and the reply to the others.
    pub most_recipients: Option<(usize, String)>,
    /// Rejects DATA after rejecting a recipient.
    pub all_or_nothing: bool,
    /// Maximum size of a message in octets, and the reply to larger ones.
    pub most_octets: Option<(usize, String)>,
    /// Accepts the message and never confirms it.
    pub hang_after_data: bool,
    /// TLS from the first byte.
    pub implicit_tls: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: Some("220 mail.example.com ready".to_owned()),
            extensions: vec!["8BITMIME".to_owned()],
            replies: BTreeMap::new(),
            recipients: BTreeMap::new(),
            most_recipients: None,
            all_or_nothing: false,
            most_octets: None,
            hang_after_data: false,
            implicit_tls: false,
        }
    }
}

/// Record of one connection.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// All lines of the client outside of DATA.
    pub commands: Vec<String>,
    /// Parameters of MAIL commands.
    pub mail_from: Vec<String>,
    /// Accepted recipients.
    pub rcpt_to: Vec<String>,
    /// Accepted messages, as received.
    pub data: Vec<String>,
    /// Parameters of AUTH, and the lines that followed it.
    pub auth: Vec<String>,
    /// True if the connection used TLS at the end.
    pub encrypted: bool,
    /// True if the client sent QUIT and then closed the connection and TLS properly.
    pub ended_properly: bool,
}

/// A running server; it stops when dropped.
pub struct Server {
    /// Address of the server.
    pub address: SocketAddr,
    /// CA that signed the server's certificate, as PEM.
    pub ca_pem: String,
    /// Number of times that the server has fallen silent.
    pub hangs: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
    conversations: Arc<Mutex<Vec<Conversation>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts the server on a free port.
    pub async fn start(script: Script) -> Self {
        Self::start_as(script, "localhost").await
    }

    /// Starts the server with a certificate for a name.
    pub async fn start_as(script: Script, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, ca_pem) = tls(name);
        let (script, hangs) = (Arc::new(Mutex::new(script)), Arc::default());
        let (its_script, its_hangs) = (Arc::clone(&script), Arc::clone(&hangs));
        let conversations: Arc<Mutex<Vec<Conversation>>> = Arc::default();
        let record = Arc::clone(&conversations);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut all = record.lock().unwrap();
                    all.push(Conversation::default());
                    all.len() - 1
                };
                let session = Session {
                    script: its_script.lock().unwrap().clone(),
                    hangs: Arc::clone(&its_hangs),
                    record: Arc::clone(&record),
                    index,
                };
                let acceptor = acceptor.clone();
                tokio::spawn(async move { session.serve(stream, acceptor).await });
            }
        });
        Self { address, ca_pem, hangs, script, conversations, task }
    }

    /// Sets the behaviour in all conversations that begin from now on.
    pub fn become_(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// Returns all conversations so far.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.conversations.lock().unwrap().clone()
    }
}

fn tls(name: &str) -> (TlsAcceptor, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec![name.to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

/// End of a plaintext conversation.
enum End {
    Closed,
    Starttls,
}

struct Session {
    script: Script,
    hangs: Arc<AtomicUsize>,
    record: Arc<Mutex<Vec<Conversation>>>,
    index: usize,
}

impl Session {
    async fn serve(self, mut stream: TcpStream, acceptor: TlsAcceptor) {
        let _ = stream.set_nodelay(true);
        if self.script.implicit_tls {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            self.note(|it| it.encrypted = true);
            let _ = self.talk(&mut stream, true).await;
            return;
        }
        if let Ok(End::Starttls) = self.talk(&mut stream, true).await {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            self.note(|it| it.encrypted = true);
            let _ = self.talk(&mut stream, false).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Conversation)) {
        change(&mut self.record.lock().unwrap()[self.index]);
    }

    fn reply(&self, to: &str, usual: &str) -> String {
        self.script.replies.get(to).cloned().unwrap_or_else(|| usual.to_owned())
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S, greet: bool) -> std::io::Result<End> {
        let mut stream = BufReader::new(stream);
        if greet {
            match &self.script.greeting {
                Some(greeting) => self.say(&mut stream, greeting).await?,
                None => self.hang().await,
            }
        }
        loop {
            let Some(line) = hear(&mut stream).await? else { return Ok(End::Closed) };
            self.note(|it| it.commands.push(line.clone()));
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.say(&mut stream, &self.ehlo()).await?,
                // A server that rejects EHLO rejects HELO too.
                "HELO" => self.say(&mut stream, &self.reply("HELO", &self.reply("EHLO", "250 ok"))).await?,
                "STARTTLS" => {
                    let reply = self.reply("STARTTLS", "220 go on");
                    self.say(&mut stream, &reply).await?;
                    if reply.starts_with("220") {
                        return Ok(End::Starttls);
                    }
                }
                "AUTH" => self.auth(&mut stream, rest).await?,
                "MAIL" => {
                    self.note(|it| it.mail_from.push(rest.to_owned()));
                    self.say(&mut stream, &self.reply("MAIL", "250 ok")).await?;
                }
                "RCPT" => self.rcpt(&mut stream, rest).await?,
                "DATA" => {
                    let usual = if self.refuses_all() { "554 too many recipients" } else { "354 go on" };
                    let reply = self.reply("DATA", usual);
                    self.say(&mut stream, &reply).await?;
                    if reply.starts_with("354") {
                        self.data(&mut stream).await?;
                    }
                }
                "QUIT" => {
                    self.say(&mut stream, &self.reply("QUIT", "221 bye")).await?;
                    let properly = matches!(hear(&mut stream).await, Ok(None));
                    self.note(|it| it.ended_properly = properly);
                    return Ok(End::Closed);
                }
                _ => self.say(&mut stream, "250 ok").await?,
            }
        }
    }

    async fn hang(&self) {
        self.hangs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }

    async fn say<S: AsyncWrite + AsyncRead + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        line: &str,
    ) -> std::io::Result<()> {
        match line {
            HANG => self.hang().await,
            CLOSE => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            line => stream.write_all(format!("{line}\r\n").as_bytes()).await?,
        }
        stream.flush().await
    }

    fn ehlo(&self) -> String {
        let mut lines = vec!["mail.example.com".to_owned()];
        lines.extend(self.script.extensions.iter().cloned());
        let last = lines.len() - 1;
        let lines: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(i, line)| format!("250{}{line}", if i == last { ' ' } else { '-' }))
            .collect();
        self.reply("EHLO", &lines.join("\r\n"))
    }

    async fn auth<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        rest: &str,
    ) -> std::io::Result<()> {
        let mechanism = rest.split(' ').next().unwrap_or_default();
        let own = self.script.replies.iter().find(|(key, _)| key.strip_prefix("AUTH ") == Some(mechanism));
        let replies = own.map_or_else(|| self.reply("AUTH", "235 welcome"), |(_, replies)| replies.clone());
        let mut said = rest.to_owned();
        for (n, reply) in replies.split(" | ").enumerate() {
            if n > 0 {
                let Some(line) = hear(stream).await? else { return Ok(()) };
                said = line;
            }
            self.note(|it| it.auth.push(said.clone()));
            self.say(stream, reply).await?;
        }
        Ok(())
    }

    async fn rcpt<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        rest: &str,
    ) -> std::io::Result<()> {
        let address =
            rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(rest, |(address, _)| address);
        let usual = self.reply("RCPT", "250 ok");
        let taken = self.record.lock().unwrap()[self.index].rcpt_to.len();
        let full = self.script.most_recipients.as_ref().filter(|(most, _)| taken >= *most).map(|(_, reply)| reply);
        let reply = full.or(self.script.recipients.get(address)).unwrap_or(&usual);
        if reply.starts_with('2') {
            self.note(|it| it.rcpt_to.push(address.to_owned()));
        }
        self.say(stream, reply).await
    }

    fn refuses_all(&self) -> bool {
        let so_far = &self.record.lock().unwrap()[self.index];
        let offered = so_far.commands.iter().filter(|line| line.starts_with("RCPT ")).count();
        self.script.all_or_nothing && offered > so_far.rcpt_to.len()
    }

    async fn data<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut BufReader<S>) -> std::io::Result<()> {
        let mut message = String::new();
        while let Some(line) = hear(stream).await? {
            if line == "." {
                break;
            }
            message.push_str(line.strip_prefix('.').unwrap_or(&line));
            message.push_str("\r\n");
        }
        if let Some((_, reply)) = self.script.most_octets.as_ref().filter(|(most, _)| message.len() > *most) {
            return self.say(stream, reply).await;
        }
        self.note(|it| it.data.push(message));
        if self.script.hang_after_data {
            self.hang().await;
        }
        self.say(stream, &self.reply(".", "250 queued")).await
    }
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

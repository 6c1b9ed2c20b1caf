//! Load over HTTP/1.1 and TLS: one thread, a closed loop on each connection, the same code for every
//! server that is compared. It counts an answer only if it is complete and of the right status.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::process::Usage;

/// Where requests go.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub name: ServerName<'static>,
    pub tls: Arc<ClientConfig>,
    /// Its processor time is what a request costs.
    pub pid: u32,
}

/// Writes a request, given a number that no other request of this run has.
pub type Ask = Arc<dyn Fn(u64, &mut Vec<u8>) + Send + Sync>;

pub struct Plan {
    pub connections: usize,
    pub warm_up: Duration,
    pub time: Duration,
}

/// What one run measured.
pub struct Outcome {
    pub per_second: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    /// Of the server, user and system, a request.
    pub cpu_micros: f64,
    pub done: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// When the counted time begins and ends, and what went wrong.
struct Clock {
    begin: Instant,
    end: Instant,
    numbers: AtomicU64,
}

/// Requests on connections that stay open.
pub fn requests(target: &Target, plan: &Plan, first: u64, ask: &Ask) -> Outcome {
    run(&runtime(), target, plan, first, |target, clock| {
        repeat(target, clock, Arc::clone(ask), u64::MAX)
    })
}

async fn repeat(target: Target, clock: Arc<Clock>, ask: Ask, below: u64) -> Tally {
    let mut tally = Tally::default();
    let mut link = match Link::open(&target).await {
        Ok(link) => link,
        Err(error) => return tally.ended_by(error),
    };
    let mut request = Vec::with_capacity(4_096);
    loop {
        let number = clock.numbers.fetch_add(1, Relaxed);
        let started = Instant::now();
        if number >= below || started >= clock.end {
            return tally;
        }
        request.clear();
        ask(number, &mut request);
        match link.exchange(&request).await {
            Ok(status) => tally.take(&clock, started, status),
            Err(error) => return tally.ended_by(error),
        }
    }
}

/// Each number from 0 up to `count` once, over so many connections.
pub fn times(target: &Target, connections: usize, count: u64, ask: &Ask) -> Outcome {
    let plan = Plan {
        connections,
        warm_up: Duration::ZERO,
        time: Duration::from_secs(3_600),
    };
    let runtime = runtime();
    let started = Instant::now();
    let before = Usage::of(target.pid);
    let tally = runtime.block_on(async {
        let clock = Arc::new(Clock::new(&plan, 0));
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                tokio::spawn(repeat(
                    target.clone(),
                    Arc::clone(&clock),
                    Arc::clone(ask),
                    count,
                ))
            })
            .collect();
        gathered(tasks).await
    });
    let spent = Usage::of(target.pid).cpu - before.cpu;
    tally.outcome(started.elapsed(), spent)
}

/// A new connection, with a full handshake, for each request. From two threads: a handshake costs the
/// client as much as the server.
pub fn handshakes(target: &Target, plan: &Plan, ask: &Ask) -> Outcome {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    run(&threads, target, plan, 0, |target, clock| {
        let ask = Arc::clone(ask);
        async move {
            let mut tally = Tally::default();
            let mut request = Vec::with_capacity(4_096);
            loop {
                let started = Instant::now();
                if started >= clock.end {
                    return tally;
                }
                request.clear();
                ask(clock.numbers.fetch_add(1, Relaxed), &mut request);
                let exchanged = async {
                    let mut link = Link::open(&target).await?;
                    let status = link.exchange(&request).await?;
                    let _ = link.stream.shutdown().await;
                    Ok(status)
                };
                match exchanged.await {
                    Ok(status) => tally.take(&clock, started, status),
                    Err(error) => return tally.ended_by(error),
                }
            }
        }
    })
}

fn run<F, T>(
    runtime: &tokio::runtime::Runtime,
    target: &Target,
    plan: &Plan,
    first: u64,
    start: F,
) -> Outcome
where
    F: Fn(Target, Arc<Clock>) -> T,
    T: Future<Output = Tally> + Send + 'static,
{
    runtime.block_on(async {
        let clock = Arc::new(Clock::new(plan, first));
        let tasks: Vec<_> = (0..plan.connections)
            .map(|_| tokio::spawn(start(target.clone(), Arc::clone(&clock))))
            .collect();
        tokio::time::sleep_until(clock.begin.into()).await;
        let before = Usage::of(target.pid);
        tokio::time::sleep_until(clock.end.into()).await;
        let spent = Usage::of(target.pid).cpu - before.cpu;
        gathered(tasks).await.outcome(plan.time, spent)
    })
}

/// One thread: what is measured has the other cores.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn gathered(tasks: Vec<tokio::task::JoinHandle<Tally>>) -> Tally {
    let mut tally = Tally::default();
    for task in tasks {
        tally.add(task.await.unwrap());
    }
    tally
}

impl Clock {
    fn new(plan: &Plan, first: u64) -> Self {
        let begin = Instant::now() + plan.warm_up;
        Self {
            begin,
            end: begin + plan.time,
            numbers: AtomicU64::new(first),
        }
    }
}

#[derive(Default)]
struct Tally {
    micros: Vec<f32>,
    failed: u64,
    first_failure: Option<String>,
}

impl Tally {
    fn take(&mut self, clock: &Clock, started: Instant, status: u16) {
        if started < clock.begin || Instant::now() > clock.end {
            return;
        }
        if (200..300).contains(&status) {
            self.micros.push(started.elapsed().as_secs_f32() * 1e6);
        } else {
            self.failed += 1;
            self.first_failure
                .get_or_insert_with(|| format!("status {status}"));
        }
    }

    fn ended_by(mut self, error: std::io::Error) -> Self {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| error.to_string());
        self
    }

    fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    fn outcome(mut self, time: Duration, spent: Duration) -> Outcome {
        self.micros.sort_unstable_by(f32::total_cmp);
        let done = self.micros.len() as u64;
        Outcome {
            per_second: done as f64 / time.as_secs_f64(),
            p50_micros: percentile(&self.micros, 0.50),
            p99_micros: percentile(&self.micros, 0.99),
            cpu_micros: spent.as_secs_f64() * 1e6 / done.max(1) as f64,
            done,
            failed: self.failed,
            first_failure: self.first_failure,
        }
    }
}

/// The value that a share of the sorted values does not exceed.
pub fn percentile(sorted: &[f32], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .map_or(f64::NAN, |value| f64::from(*value))
}

/// An open connection.
pub struct Link {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Link {
    pub async fn open(target: &Target) -> std::io::Result<Self> {
        Self::over(target, TcpStream::connect(target.address).await?).await
    }

    /// TLS over a connection that may come from an address of its own.
    pub async fn over(target: &Target, stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&target.tls));
        Ok(Self {
            stream: connector.connect(target.name.clone(), stream).await?,
            buffer: Vec::new(),
        })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Returns when the other side has closed.
    pub async fn closed(&mut self) {
        while self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .is_ok_and(|read| read > 0)
        {}
    }

    /// Sends a request and takes all of the answer; returns its status.
    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<u16> {
        self.send(request).await?;
        self.buffer.clear();
        let mut awaited = None;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if awaited.is_none() {
                awaited = answer(&self.buffer)?;
            }
            if let Some((status, length)) = awaited
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and whole length of an answer, once its head is there.
fn answer(bytes: &[u8]) -> std::io::Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let unreadable = || std::io::Error::other("an answer without status and length");
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| unreadable())?;
    let status: u16 = head
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(unreadable)?;
    let length = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match (status, length) {
        (204, _) => Ok(Some((status, end + 4))),
        (_, Some(length)) => Ok(Some((status, end + 4 + length))),
        (_, None) => Err(unreadable()),
    }
}

#[test]
fn an_answer_is_whole_when_its_body_is() {
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
    let whole = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(answer(whole).unwrap(), Some((201, whole.len())));
    assert!(answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn percentiles_are_values_that_occurred() {
    let hundred: Vec<f32> = (1..=100u8).map(f32::from).collect();
    assert_eq!(percentile(&hundred, 0.50), 50.0);
    assert_eq!(percentile(&hundred, 0.99), 99.0);
    assert_eq!(percentile(&[7.0], 0.99), 7.0);
    assert!(percentile(&[], 0.5).is_nan());
}

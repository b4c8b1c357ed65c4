//! The thread of the clients: one epoll, one buffer, a socket and some 80 bytes for each client.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::Result;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{Command, Counters, Plan};
use crate::event::{ALL, Scan, Stamp, now};

const WAKER: Token = Token(usize::MAX);
/// How an answer with a token begins; as many bytes follow as the next one says.
const TOKEN: &[u8] = b"{\"token\":\"";
const TOKEN_LENGTH: usize = 32;
/// Bytes that are read at once.
const READ: usize = 64 * 1024;
/// Events of epoll that are taken at once.
const EVENTS: usize = 1024;

/// One client.
struct Client {
    socket: TcpStream,
    /// What is not written yet of the request, then what has come of the answer's head.
    head: Vec<u8>,
    state: State,
    own: u32,
    next_all: u32,
    next_own: u32,
    scan: Scan,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Not yet connected, or the request is not written. Then a token comes, or the stream.
    Connecting {
        mint: bool,
    },
    Minting,
    Asked,
    Open,
    Ended,
}

struct Thread {
    poll: Poll,
    clients: Vec<Client>,
    /// What is still to be opened, last one first.
    plan: Option<Plan>,
    delays: Vec<u32>,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
}

/// Starts the thread; it ends by [`Command::Stop`], or when nobody can command it any more.
pub fn start(counters: Arc<Counters>, orders: mpsc::Receiver<Command>) -> Result<(JoinHandle<()>, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let mut thread =
        Thread { poll, clients: Vec::new(), plan: None, delays: Vec::new(), counters, buffer: vec![0; READ] };
    let handle = std::thread::Builder::new().name("clients".into()).spawn(move || {
        if let Err(error) = thread.run(&orders) {
            thread.trouble(&format!("{error:#}"));
        }
    })?;
    Ok((handle, waker))
}

impl Thread {
    fn run(&mut self, orders: &mpsc::Receiver<Command>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() == WAKER {
                    for order in orders.try_iter() {
                        if !self.obey(order)? {
                            return Ok(());
                        }
                    }
                } else {
                    self.step(event.token().0);
                }
            }
        }
    }

    fn obey(&mut self, order: Command) -> Result<bool> {
        match order {
            Command::Open(mut plan) => {
                plan.requests.reverse();
                self.clients.reserve(plan.requests.len());
                let at_once = plan.at_once;
                self.plan = Some(plan);
                for _ in 0..at_once {
                    self.connect()?;
                }
            }
            Command::Delays(reply) => {
                let _ = reply.send(std::mem::take(&mut self.delays));
            }
            Command::Behind(all, own, reply) => {
                let there = |client: &&Client| client.next_all == all && client.next_own == own;
                let _ = reply.send(self.clients.len() - self.clients.iter().filter(there).count());
            }
            Command::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// Begins the next handshake, if there is one left.
    fn connect(&mut self) -> Result<()> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        let Some((own, head)) = plan.requests.pop() else { return Ok(()) };
        let mut socket = TcpStream::connect(plan.address)?;
        let token = Token(self.clients.len());
        self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let (next_all, state) = (plan.next_all, State::Connecting { mint: plan.mint });
        self.clients.push(Client { socket, head, state, own, next_all, next_own: 0, scan: Scan::default() });
        Ok(())
    }

    /// What a client can do now. Whatever goes wrong ends it.
    fn step(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if let State::Connecting { mint } = client.state {
            match client.socket.write(&client.head) {
                Ok(count) if count == client.head.len() => {
                    client.head.clear();
                    client.state = if mint { State::Minting } else { State::Asked };
                }
                Ok(_) => return self.end(index, "the request was not taken whole"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Linux says so until the connection is made.
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) => return self.end(index, &error.to_string()),
            }
        }
        if client.state != State::Ended {
            self.read(index);
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            let count = match client.socket.read(&mut self.buffer) {
                Ok(0) => return self.end(index, "the server has ended the stream"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.end(index, &error.to_string()),
            };
            let (counters, delays) = (&self.counters, &mut self.delays);
            if client.state == State::Open {
                take(client, &self.buffer[..count], counters, delays);
            } else if client.state == State::Minting {
                client.head.extend_from_slice(&self.buffer[..count]);
                return self.redeem(index);
            } else {
                client.head.extend_from_slice(&self.buffer[..count]);
                if let Some(end) = memmem::find(&client.head, b"\r\n\r\n") {
                    let head = std::mem::take(&mut client.head);
                    if !head.starts_with(b"HTTP/1.1 200") {
                        return self.end(index, &String::from_utf8_lossy(&head));
                    }
                    client.state = State::Open;
                    take(client, &head[end..], counters, delays);
                    counters.opened.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = self.connect() {
                        self.trouble(&format!("{error:#}"));
                    }
                }
            }
            // Less than was asked for: the socket is empty, and epoll tells of more.
            if count < READ {
                return;
            }
        }
    }

    /// Asks for the stream, once the token has come: on the same connection, unless the server has closed it.
    fn redeem(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.head.len() > 12 && !client.head.starts_with(b"HTTP/1.1 200") {
            let head = String::from_utf8_lossy(&client.head).into_owned();
            return self.end(index, &head);
        }
        let Some(at) = memmem::find(&client.head, TOKEN) else { return };
        let answer = std::mem::take(&mut client.head);
        let Some(token) = answer.get(at + TOKEN.len()..at + TOKEN.len() + TOKEN_LENGTH) else {
            client.head = answer;
            return;
        };
        client.head = b"GET /api/v1/sse/stream?token=".to_vec();
        client.head.extend_from_slice(token);
        client.head.extend_from_slice(b" HTTP/1.1\r\nHost: x\r\n\r\n");
        client.state = State::Connecting { mint: false };
        if String::from_utf8_lossy(&answer[..at]).to_lowercase().contains("\r\nconnection: close") {
            if let Err(error) = self.again(index) {
                self.end(index, &format!("{error:#}"));
            }
        } else {
            self.step(index);
        }
    }

    /// Connects a client anew.
    fn again(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        let mut socket = TcpStream::connect(client.socket.peer_addr()?)?;
        self.poll.registry().deregister(&mut client.socket)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(index), interest)?;
        client.socket = socket;
        Ok(())
    }

    fn end(&mut self, index: usize, why: &str) {
        let client = &mut self.clients[index];
        client.state = State::Ended;
        let _ = self.poll.registry().deregister(&mut client.socket);
        self.trouble(why);
    }

    fn trouble(&self, why: &str) {
        if let Ok(mut text) = self.counters.trouble.lock()
            && text.is_empty()
        {
            why.clone_into(&mut text);
        }
        self.counters.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Checks what has come.
fn take(client: &mut Client, bytes: &[u8], counters: &Counters, delays: &mut Vec<u32>) {
    let read_at = now();
    let (own, next_all, next_own) = (client.own, &mut client.next_all, &mut client.next_own);
    client.scan.take(bytes, |Stamp { to, number, at }| {
        let count = |counter: &AtomicU64, by: u32| counter.fetch_add(u64::from(by), Ordering::Relaxed);
        let next = match to {
            ALL => &mut *next_all,
            to if to == own => &mut *next_own,
            _ => {
                count(&counters.strangers, 1);
                return;
            }
        };
        if number < *next {
            count(&counters.repeated, 1);
        } else {
            count(&counters.lost, number - *next);
            *next = number + 1;
        }
        delays.push(u32::try_from(read_at.saturating_sub(at) / 1000).unwrap_or(u32::MAX));
        count(&counters.received, 1);
    });
}

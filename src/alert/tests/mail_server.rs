//! A mail server that knows the words of one conversation.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it says to each command; everything else is 250.
#[derive(Clone, Default)]
pub(in crate::alert) struct Manners {
    /// After EHLO, one extension each.
    pub(in crate::alert) offers: Vec<&'static str>,
    /// To a recipient.
    pub(in crate::alert) to_recipient: Option<&'static str>,
}

/// What was said to it.
#[derive(Default)]
pub(in crate::alert) struct Heard {
    pub(in crate::alert) commands: Vec<String>,
    /// Each message with its headers.
    pub(in crate::alert) messages: Vec<String>,
}

/// Starts one; returns its port.
pub(in crate::alert) async fn start(manners: Manners) -> (u16, Arc<Mutex<Heard>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::<Mutex<Heard>>::default();
    let shared = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (heard, manners) = (Arc::clone(&shared), manners.clone());
            tokio::spawn(async move {
                // Whoever hangs up in the middle has had enough.
                let _ = converse(stream, &heard, &manners).await;
            });
        }
    });
    (port, heard)
}

async fn converse(stream: TcpStream, heard: &Mutex<Heard>, manners: &Manners) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ESMTP\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end().to_owned();
        heard.lock().unwrap().commands.push(command.clone());
        let reply = match command.split([' ', ':']).next().unwrap().to_ascii_uppercase().as_str() {
            "EHLO" => {
                let lines: Vec<_> = std::iter::once("mail.test").chain(manners.offers.iter().copied()).collect();
                let last = lines.len() - 1;
                let line =
                    |(place, text): (usize, &&str)| format!("250{}{text}\r\n", if place == last { ' ' } else { '-' });
                lines.iter().enumerate().map(line).collect()
            }
            "AUTH" => "235 welcome\r\n".to_owned(),
            "RCPT" => format!("{}\r\n", manners.to_recipient.unwrap_or("250 fine")),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut message = String::new();
                while !message.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut message).await? == 0 {
                        return Ok(());
                    }
                }
                heard.lock().unwrap().messages.push(message);
                "250 queued\r\n".to_owned()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 fine\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

//! A client of Midstreamer on quinn, for tests: one command as a JSON line in, one result out.
//!
//! It shares no code with the server. It sends whatever it is told to send, valid or not, and
//! reports what it received. The tests that start it (tests/interop) judge the result.

mod frames;
mod session;
mod trust;

use std::io::BufRead;

use serde_json::{Value, json};
use session::{Failure, Session};
use tokio::sync::mpsc;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve());
}

async fn serve() {
    let mut lines = lines();
    let mut session = Session::default();
    while let Some(line) = lines.recv().await {
        println!("{}", answer(&mut session, &line).await);
    }
}

/// Lines of standard input, read by a thread, so that connections go on between two commands.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn answer(session: &mut Session, line: &str) -> Value {
    let asked: Value = match serde_json::from_str(line) {
        Ok(asked) => asked,
        Err(error) => return Failure::client(error).told(),
    };
    match perform(session, &asked).await {
        Ok(mut found) => {
            found["ok"] = json!(true);
            found
        }
        Err(failure) => failure.told(),
    }
}

async fn perform(session: &mut Session, asked: &Value) -> Result<Value, Failure> {
    match asked["do"].as_str().unwrap_or_default() {
        "connect" => session.connect(asked).await,
        "write" => session.write(asked).await,
        "ask" => session.ask(asked).await,
        "receive" => session.receive(asked).await,
        "end" => session.end(asked).await,
        "migrate" => session.migrate(),
        "update_keys" => session.update_keys(),
        "facts" => session.facts(),
        "close" => session.close(),
        other => Err(Failure::client(format!("unsupported: {other}"))),
    }
}

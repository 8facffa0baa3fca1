//! `millstream worker`: any program as the worker of a queue.
//!
//! Each message is one run of a command: the body on standard input, the rest in the environment, the exit code is the
//! verdict. The leases of messages under way last as long as the stream; when it is lost, what runs is finished, its
//! verdict is void, and another stream is opened.

mod reply;

use super::BrokerArgs;
use super::exit::CliError;
use super::interrupt::Interrupts;
use crate::client::{Client, ClientError, QueueEvent, QueueMessage, QueueStream, QueueWindow, Verdict};
use clap::Args;
use reply::Output;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes of messages that are out at a time, however many jobs there are.
const WINDOW_BYTES: u64 = 64 << 20;

/// How long to wait before a lost stream is opened again.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
The command gets the body on standard input, and in its environment:
  MILLSTREAM_QUEUE, MILLSTREAM_TOPIC, MILLSTREAM_PARTITION, MILLSTREAM_OFFSET, MILLSTREAM_ATTEMPT,
  MILLSTREAM_KEY (if there is one), MILLSTREAM_HEADER_NAME for each header (upper case, _ for other signs)
Its exit code decides: 0 = done, 65 (or --reject-code) = never to be done, to the dead letter topic, any other = failed,
to be tried again as the queue says. With --reply its standard output is the reply to whoever sent the message with
millstream request: when it is done, rejected, or has failed for the last time. Ctrl-C: what runs is finished, the rest is given back; twice: ended at once.

Examples:
  millstream worker mail --exec ./send-mail -j 8
  millstream worker prices --exec ./price-of --reply
  millstream worker thumbnails --exec 'convert - -resize 100x100 \"/out/$MILLSTREAM_KEY.png\"'";

/// Options of `worker`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WorkerArgs {
    /// The queue.
    queue: String,
    /// What to run for each message, by the shell.
    #[arg(long, value_name = "CMD")]
    exec: String,
    /// How many at a time.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// The exit code that means: this will never succeed.
    #[arg(long, value_name = "CODE", default_value_t = 65, value_parser = clap::value_parser!(u8).range(1..))]
    reject_code: u8,
    /// Make the output of the command, but for its last newline, the reply to messages that wait for one.
    #[arg(long)]
    reply: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// A run that has ended: the stream its message came on, the message, and what became of it.
type Done = (u64, QueueMessage, Verdict);

/// How one stream ended.
enum End {
    Interrupted,
    Lost(ClientError),
}

/// Works until it is told to stop.
pub(super) async fn run(args: WorkerArgs) -> Result<(), CliError> {
    let client = args.broker.connect().await?;
    let window = QueueWindow { messages: args.jobs.into(), bytes: WINDOW_BYTES };
    let mut stream = client.receive_stream(&args.queue, window).await?;
    let mut interrupts = Interrupts::listen();
    let mut jobs: JoinSet<Done> = JoinSet::new();
    for session in 0.. {
        match work(&args, &client, &mut stream, &mut interrupts, session, &mut jobs).await {
            End::Interrupted => return finish(stream, &mut interrupts, session, jobs).await,
            End::Lost(error) if !is_passing(&error) => return Err(error.into()),
            End::Lost(error) => eprintln!("millstream: {error}; the messages under way are handed out again"),
        }
        stream = tokio::select! {
            reopened = reopen(&client, &args.queue, window) => reopened?,
            () = interrupts.next() => return Err(CliError::Interrupted),
        };
    }
    Ok(())
}

/// Runs the command for each message of one stream.
async fn work(
    args: &WorkerArgs,
    client: &Client,
    stream: &mut QueueStream,
    interrupts: &mut Interrupts,
    session: u64,
    jobs: &mut JoinSet<Done>,
) -> End {
    loop {
        let step = tokio::select! {
            event = stream.next() => match event {
                Ok(QueueEvent::Messages(messages)) => {
                    for message in messages {
                        let job = Job::new(args, client);
                        jobs.spawn(async move {
                            let (message, verdict) = job.run(message).await;
                            (session, message, verdict)
                        });
                    }
                    Ok(())
                }
                Ok(QueueEvent::Settled(refused)) => {
                    for refused in refused {
                        eprintln!("millstream: {}", refused.refusal);
                    }
                    Ok(())
                }
                Ok(QueueEvent::Drain) => Ok(()),
                Err(error) => Err(error),
            },
            Some(done) = jobs.join_next() => settle(stream, session, done),
            () = interrupts.next() => return End::Interrupted,
        };
        if let Err(error) = step {
            return End::Lost(error);
        }
    }
}

/// Sends the verdict of a run, unless the stream of its message is lost.
fn settle(stream: &QueueStream, session: u64, done: Result<Done, tokio::task::JoinError>) -> Result<(), ClientError> {
    match done {
        Ok((from, message, verdict)) if from == session => stream.settle(vec![message.settle(verdict)]),
        Ok((_, message, _)) => {
            let (at, offset) = (&message.record.partition, message.record.offset);
            eprintln!("millstream: {at} offset {offset} was finished after its stream was lost; it comes again");
            Ok(())
        }
        // A panic has said its own words, and the message comes again with its lease.
        Err(_) => Ok(()),
    }
}

/// Lets what runs end, and gives back the rest.
async fn finish(
    stream: QueueStream,
    interrupts: &mut Interrupts,
    session: u64,
    mut jobs: JoinSet<Done>,
) -> Result<(), CliError> {
    if !jobs.is_empty() {
        eprintln!("finishing {} messages; interrupt again to end at once", jobs.len());
    }
    loop {
        tokio::select! {
            done = jobs.join_next() => match done {
                Some(done) => settle(&stream, session, done)?,
                None => break,
            },
            () = interrupts.next() => return Err(CliError::Interrupted),
        }
    }
    Ok(stream.close().await?)
}

async fn reopen(client: &Client, queue: &str, window: QueueWindow) -> Result<QueueStream, ClientError> {
    loop {
        tokio::time::sleep(REOPEN_INTERVAL).await;
        match client.receive_stream(queue, window).await {
            Err(error) if is_passing(&error) => {}
            opened => return opened,
        }
    }
}

/// Whether it makes sense to open the stream again.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(refusal) => refusal.retryable,
        ClientError::ConnectionLost { .. } | ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => true,
        _ => false,
    }
}

/// What is done for one message.
struct Job {
    client: Client,
    exec: String,
    queue: String,
    reject_code: u8,
    replies: bool,
}

impl Job {
    fn new(args: &WorkerArgs, client: &Client) -> Self {
        let (client, exec, queue) = (client.clone(), args.exec.clone(), args.queue.clone());
        Self { client, exec, queue, reject_code: args.reject_code, replies: args.reply }
    }

    /// Runs the command, replies if that is asked for, and gives the message back with its verdict.
    async fn run(self, message: QueueMessage) -> (QueueMessage, Verdict) {
        let running = tokio::task::spawn_blocking(move || {
            let ran = self.run_command(&message);
            (self, message, ran)
        });
        let (job, message, (verdict, output)) = running.await.expect("running a command does not panic");
        let verdict = match output {
            Some(output) => reply::reply(&job.client, &job.queue, &message, &output, verdict).await,
            None => verdict,
        };
        (message, verdict)
    }

    /// Runs the command for one message, and waits for its end. Its output is read if it is to be a reply.
    fn run_command(&self, message: &QueueMessage) -> (Verdict, Option<Output>) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.exec).stdin(Stdio::piped()).envs(environment(&self.queue, message));
        // In a group of its own: an interrupt from the terminal is for the worker, which lets the command finish.
        command.process_group(0);
        if self.replies {
            command.stdout(Stdio::piped());
        }
        let failed = |what, error| Verdict::Nack { delay: None, reason: format!("{what}: {error}") };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return (failed("the command cannot be run", error), None),
        };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        // Both at once: a command may write before it has read everything, and would wait for ever.
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                // A command need not read its input; a closed pipe says nothing about how it ends.
                let body = message.record.value.as_deref().unwrap_or_default();
                stdin.map(|mut stdin| stdin.write_all(body))
            });
            stdout.map(Output::read).transpose()
        });
        let verdict = match child.wait() {
            Ok(status) if status.success() => Verdict::Ack,
            Ok(status) if status.code() == Some(self.reject_code.into()) => {
                Verdict::Reject { reason: format!("the command ended with {status}") }
            }
            Ok(status) => Verdict::Nack { delay: None, reason: format!("the command ended with {status}") },
            Err(error) => failed("the end of the command is not known", error),
        };
        match output {
            Ok(Some(mut output)) => (output.judge(verdict), Some(output)),
            Ok(None) => (verdict, None),
            Err(error) => (failed("the output of the command cannot be read", error), None),
        }
    }
}

/// What the command is told besides the body. A value with a zero byte cannot stand in an environment, and is left out.
fn environment(queue: &str, message: &QueueMessage) -> Vec<(String, OsString)> {
    let record = &message.record;
    let mut variables = vec![
        ("MILLSTREAM_QUEUE".to_owned(), OsString::from(queue)),
        ("MILLSTREAM_TOPIC".to_owned(), record.partition.topic.as_str().into()),
        ("MILLSTREAM_PARTITION".to_owned(), record.partition.partition.to_string().into()),
        ("MILLSTREAM_OFFSET".to_owned(), record.offset.to_string().into()),
        ("MILLSTREAM_ATTEMPT".to_owned(), message.attempt.to_string().into()),
    ];
    let key = record.key.iter().map(|key| ("MILLSTREAM_KEY".to_owned(), key));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let headers = record.headers.iter();
    let headers = headers
        .map(|(name, value)| (format!("MILLSTREAM_HEADER_{}", name.chars().map(plain).collect::<String>()), value));
    let without_zero = key.chain(headers).filter(|(_, value)| !value.contains(&0));
    variables.extend(without_zero.map(|(name, value)| (name, OsString::from_vec(value.to_vec()))));
    variables
}

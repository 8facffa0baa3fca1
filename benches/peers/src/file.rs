//! One file in this process: what the disk and the system call cost, and nothing else. Only for producing.
//!
//! One thread takes all blocks that wait, writes them, syncs once if asked to, and answers them all: the shape of the
//! broker's writer without anything around it. There is no server, so there is no processor time of one.

use millstream::bench::Tally;
use millstream::bench::payload::Block;
use millstream::bench::target::{Reader, ReaderOptions, Sender, SenderOptions, Target, TopicPlan};
use millstream::types::Durability;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Blocks that may wait for the thread.
const WAITING_MAX: usize = 4_096;

type Append = (Vec<u8>, oneshot::Sender<()>);

/// A directory with one file for each topic.
#[derive(Debug, Clone)]
pub struct FileLoop {
    directory: Arc<TempDir>,
    topics: Arc<Mutex<HashMap<String, SyncSender<Append>>>>,
}

impl FileLoop {
    pub fn new(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("peer-").tempdir_in(parent)?;
        Ok(Self { directory: Arc::new(directory), topics: Arc::default() })
    }
}

/// Appends until the last sender has gone.
fn append(mut file: File, synced: bool, appends: &Receiver<Append>) -> io::Result<()> {
    let mut together = Vec::new();
    while let Ok(first) = appends.recv() {
        together.push(first);
        together.extend(appends.try_iter());
        for (block, _) in &together {
            file.write_all(block)?;
        }
        if synced {
            file.sync_data()?;
        }
        for (_, answer) in together.drain(..) {
            let _ = answer.send(());
        }
    }
    Ok(())
}

impl Target for FileLoop {
    type Error = io::Error;
    type Sender = FileSender;
    type Reader = NoReader;

    fn system(&self) -> String {
        "file".to_owned()
    }

    fn version(&self) -> String {
        String::new()
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    async fn create_topic(&self, topic: &TopicPlan) -> io::Result<()> {
        let file = File::create(self.directory.path().join(&topic.name))?;
        let (sender, appends) = sync_channel(WAITING_MAX);
        let synced = topic.durability == Durability::Synced;
        std::thread::spawn(move || append(file, synced, &appends));
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.name.clone(), sender);
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> io::Result<()> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        std::fs::remove_file(self.directory.path().join(name))
    }

    async fn record_count(&self, _: &str) -> io::Result<Option<u64>> {
        Ok(None)
    }

    async fn open_sender(&self, options: &SenderOptions) -> io::Result<FileSender> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let appends = topics.get(&options.topic).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(FileSender { appends, waiting: VecDeque::new() })
    }

    async fn open_reader(&self, _: &ReaderOptions) -> io::Result<NoReader> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug)]
pub struct FileSender {
    appends: SyncSender<Append>,
    waiting: VecDeque<oneshot::Receiver<()>>,
}

impl Sender for FileSender {
    type Error = io::Error;

    async fn send(&mut self, _: u32, block: Block<'_>) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        let bytes = block.records().flatten().copied().collect();
        self.appends.try_send((bytes, answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.waiting.push_back(answered);
        Ok(())
    }

    async fn settled(&mut self) -> io::Result<()> {
        if let Some(answered) = self.waiting.front_mut() {
            answered.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

/// There is nothing to read with.
#[derive(Debug)]
pub struct NoReader;

impl Reader for NoReader {
    type Error = io::Error;

    async fn read(&mut self, _: &mut Tally) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

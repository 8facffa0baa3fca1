//! The admin door over a real socket: what scrapers and load balancers rely on.

use super::*;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct FakeBroker(Mutex<Readiness>);

impl Inspect for FakeBroker {
    fn readiness(&self) -> Readiness {
        *self.0.lock().expect("no test panics while holding it")
    }

    fn readings(&self) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>> {
        Box::pin(async { Readings::default() })
    }
}

async fn start(readiness: Readiness) -> (SocketAddr, Arc<FakeBroker>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let broker = Arc::new(FakeBroker(Mutex::new(readiness)));
    tokio::spawn(serve(listener, Arc::new(Metrics::default()), broker.clone()));
    (address, broker)
}

/// Status line, and everything the server sent.
async fn get_page(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("the door is open");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the door answers");
    (answer.lines().next().unwrap_or_default().to_owned(), answer)
}

#[tokio::test]
async fn a_broker_is_ready_only_while_it_serves_and_alive_always() {
    let (address, broker) = start(Readiness::Starting).await;
    for (readiness, status, word) in [
        (Readiness::Starting, "HTTP/1.1 503 Service Unavailable", "starting"),
        (Readiness::Serving, "HTTP/1.1 200 OK", "serving"),
        (Readiness::Draining, "HTTP/1.1 503 Service Unavailable", "draining"),
    ] {
        *broker.0.lock().expect("no test panics while holding it") = readiness;
        let (found, page) = get_page(address, "/readyz").await;
        assert_eq!(found, status);
        assert!(page.ends_with(&format!("\r\n\r\n{word}\n")), "{page}");
        assert_eq!(get_page(address, "/healthz").await.0, "HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn pages_say_what_they_are() {
    let (address, _broker) = start(Readiness::Serving).await;
    let (status, page) = get_page(address, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(page.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");

    let (_, front) = get_page(address, "/").await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(front.contains(&format!("href={path}")), "{front}");
    }
    assert_eq!(get_page(address, "/other").await.0, "HTTP/1.1 404 Not Found");
}

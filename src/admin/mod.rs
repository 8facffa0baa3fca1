//! The admin door: metrics and health over plain HTTP, for scrapers, load balancers and people with a browser.
//!
//! Read-only and without secrets beyond names of topics and groups. It is served apart from gRPC, so that it answers
//! while the broker is still opening logs and while it drains; `/readyz` tells those times apart from serving.
//! It translates and owns no state: what it shows comes from [`Metrics`] and from whoever implements [`Inspect`].

use crate::metrics::{Metrics, Readings};
use crate::shutdown::Shutdown;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What the admin door asks of the broker.
pub trait Inspect: Send + Sync + 'static {
    /// Whether calls are served now.
    fn readiness(&self) -> Readiness;

    /// The state of every partition and group. Called once for each scrape.
    fn readings(&self) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>>;
}

/// Where in its life a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Opening logs; calls are not served yet.
    Starting,
    /// Calls are served.
    Serving,
    /// Stopping; new calls are refused.
    Draining,
}

/// Serves the admin door until the process is done with it: it outlives the drain, so the caller drops this future at
/// the very end.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, broker: Arc<dyn Inspect>) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, broker)).await
}

/// The page for each path.
fn router(metrics: Arc<Metrics>, broker: Arc<dyn Inspect>) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readiness_page))
        .with_state(Admin { metrics, broker })
}

#[derive(Clone)]
struct Admin {
    metrics: Arc<Metrics>,
    broker: Arc<dyn Inspect>,
}

async fn front_page(State(admin): State<Admin>) -> Html<String> {
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>millstream</title>\n\
         <h1>millstream {version}</h1>\n<p>{readiness}</p>\n<ul>\n\
         <li><a href=/metrics>/metrics</a> what the broker counts, for Prometheus\n\
         <li><a href=/healthz>/healthz</a> 200 while the process lives\n\
         <li><a href=/readyz>/readyz</a> 200 while calls are served, 503 while starting or stopping\n</ul>\n",
        version = env!("CARGO_PKG_VERSION"),
        readiness = word(admin.broker.readiness()),
    ))
}

async fn metrics_page(State(admin): State<Admin>) -> impl IntoResponse {
    let readings = admin.broker.readings().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.render(readings))
}

async fn readiness_page(State(admin): State<Admin>) -> impl IntoResponse {
    let readiness = admin.broker.readiness();
    let status = match readiness {
        Readiness::Serving => StatusCode::OK,
        Readiness::Starting | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", word(readiness)))
}

fn word(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Starting => "starting",
        Readiness::Serving => "serving",
        Readiness::Draining => "draining",
    }
}

/// Readiness as the drain alone tells it: for a server whose logs are open before the admin door is.
impl From<&Shutdown> for Readiness {
    fn from(shutdown: &Shutdown) -> Self {
        if shutdown.is_draining() { Self::Draining } else { Self::Serving }
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;

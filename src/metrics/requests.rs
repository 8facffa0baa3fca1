//! Requests that wait for their replies, and what became of them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Default)]
pub(super) struct RequestMetrics {
    waiting: Gauge,
    answered: Counter,
    timed_out: Counter,
}

/// A request that waits for its reply; counted until dropped.
#[derive(Debug)]
pub struct RequestCounted(Gauge);

impl RequestMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests whose callers wait for a reply now";
        registry.register("requests_waiting", help, self.waiting.clone());
        let help = "Requests whose callers got their reply, failed ones included";
        registry.register("requests_answered", help, self.answered.clone());
        let help = "Requests whose callers got no reply in time";
        registry.register("requests_timed_out", help, self.timed_out.clone());
    }
}

impl super::Metrics {
    /// A request waits for its reply until the answer is dropped.
    pub fn request_waits(&self) -> RequestCounted {
        self.requests.waiting.inc();
        RequestCounted(self.requests.waiting.clone())
    }

    /// A caller has its reply.
    pub fn request_answered(&self) {
        self.requests.answered.inc();
    }

    /// A caller's time was up.
    pub fn request_timed_out(&self) {
        self.requests.timed_out.inc();
    }
}

impl Drop for RequestCounted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

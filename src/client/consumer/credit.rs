//! How much the broker may still send: the window, given back in steps.
//!
//! The broker counts what it sends against the credit; we give back what the reader has taken, and only when it is
//! half of the window, so that grants are few and the stream never runs dry while the reader keeps up.

use crate::proto;

/// What the reader has taken and the broker does not know of yet.
#[derive(Debug)]
pub(super) struct CreditWindow {
    window: proto::Credit,
    taken: proto::Credit,
}

impl CreditWindow {
    pub(super) fn new(records: u64, bytes: u64) -> Self {
        Self { window: proto::Credit { records, bytes }, taken: proto::Credit::default() }
    }

    /// What to grant when the stream opens.
    pub(super) fn initial(&self) -> proto::Credit {
        self.window
    }

    /// The reader has taken this.
    pub(super) fn take(&mut self, records: u64, bytes: u64) {
        self.taken.records += records;
        self.taken.bytes += bytes;
    }

    /// What to grant now, if it is enough to be worth a message.
    pub(super) fn grant(&mut self) -> Option<proto::Credit> {
        let due = self.taken.records * 2 >= self.window.records || self.taken.bytes * 2 >= self.window.bytes;
        (due && self.taken.records > 0).then(|| std::mem::take(&mut self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_goes_back_in_halves_of_the_window_and_none_is_lost() {
        let mut window = CreditWindow::new(10, 1000);
        window.take(1, 400);
        assert_eq!(window.grant(), None);
        window.take(1, 100);
        assert_eq!(window.grant(), Some(proto::Credit { records: 2, bytes: 500 }));
        assert_eq!(window.grant(), None);
        window.take(5, 1);
        assert_eq!(window.grant(), Some(proto::Credit { records: 5, bytes: 1 }));
    }

    #[test]
    fn an_empty_window_grants_nothing_by_itself() {
        assert_eq!(CreditWindow::new(0, 0).grant(), None);
    }
}

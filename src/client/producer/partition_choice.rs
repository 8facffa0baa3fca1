//! Which partition a record goes to.
//!
//! Records with a key go where Kafka's clients send that key. Records without one go to one partition until its batch
//! is sent, then to the next: spreading them one by one would make many small batches out of one large one.

use crate::types::partitioner::partition_of_key;

/// Chooses partitions for one producer.
#[derive(Debug)]
pub(super) struct PartitionChoice {
    fixed: Option<u32>,
    partitions: u32,
    /// Where records without a key go now.
    sticky: u32,
}

impl PartitionChoice {
    /// `seed` spreads producers that start together over different first partitions.
    pub(super) fn new(fixed: Option<u32>, partitions: u32, seed: u64) -> Self {
        let sticky = u32::try_from(seed % u64::from(partitions)).expect("less than partitions, which is a u32");
        Self { fixed, partitions, sticky }
    }

    pub(super) fn partitions(&self) -> u32 {
        self.partitions
    }

    #[inline]
    pub(super) fn choose(&self, key: Option<&[u8]>) -> u32 {
        match (self.fixed, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.partitions),
            (None, None) => self.sticky,
        }
    }

    /// A batch of `partition` was sealed.
    pub(super) fn batch_sealed(&mut self, partition: u32) {
        if partition == self.sticky {
            self.sticky = (self.sticky + 1) % self.partitions;
        }
    }

    /// The topic has grown. Keys move; see `UpdateTopicRequest.partitions`.
    pub(super) fn set_partitions(&mut self, partitions: u32) {
        self.partitions = self.partitions.max(partitions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_always_goes_to_its_partition() {
        let mut choice = PartitionChoice::new(None, 7, 3);
        let before = choice.choose(Some(b"order-1"));
        choice.batch_sealed(before);
        choice.batch_sealed(3);
        assert_eq!(choice.choose(Some(b"order-1")), before);
        assert_eq!(before, partition_of_key(b"order-1", 7));
    }

    #[test]
    fn records_without_a_key_change_partition_with_each_batch() {
        let mut choice = PartitionChoice::new(None, 3, 4);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(choice.choose(None));
            choice.batch_sealed(choice.choose(None));
        }
        assert_eq!(seen, [1, 2, 0, 1]);
    }

    #[test]
    fn a_fixed_partition_wins_over_the_key() {
        assert_eq!(PartitionChoice::new(Some(2), 3, 0).choose(Some(b"k")), 2);
    }
}

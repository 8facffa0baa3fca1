//! Identities of producers, and who may write to a partition.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::topic_table::refuse_internal;
use crate::producer::{Identity, ProducerError, ProducerName};

impl Broker {
    /// An identity for an idempotent producer: the next epoch of this name, or one that nobody else has.
    pub async fn init_producer(&self, name: Option<&str>) -> Result<Identity, BrokerError> {
        if self.shutdown.is_draining() {
            return Err(BrokerError::Draining);
        }
        let name = name.map(ProducerName::new).transpose().map_err(ProducerError::from)?;
        Ok(self.producers()?.init(name).await?)
    }

    /// Raises the fencing token of a partition; `None` takes it away. Durable, and obeyed, when it returns.
    pub async fn fence_partition(&self, name: &str, number: u32, token: Option<u64>) -> Result<(), BrokerError> {
        let topic = self.topic(name)?;
        refuse_internal(&topic.name)?;
        let fenced = topic.partition(number)?.fence(token).await;
        fenced.map_err(|error| BrokerError::append(topic.at(number), error))
    }
}

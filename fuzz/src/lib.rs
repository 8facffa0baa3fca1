//! What the fuzz targets share: files in memory, bounds on memory, logs that are made whole and then damaged.
//!
//! ```text
//! bounds              an allocator that ends the process above a stated bound
//! memory_file_system  the seam to the operating system, in memory
//! damaged_log         a directory with a log in it: written by the library, then damaged, or arbitrary bytes
//! sealed              checksums put right, so that what comes after them is reached
//! ```

pub mod bounds;
pub mod damaged_log;
pub mod memory_file_system;
pub mod sealed;

pub use bounds::bounded;
pub use memory_file_system::MemoryFileSystem;

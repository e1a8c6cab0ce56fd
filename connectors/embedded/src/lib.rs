//! Event log and state store in one process, on fjall.

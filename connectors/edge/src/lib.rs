//! REST, WebSocket and dashboard over a session's committed facts.

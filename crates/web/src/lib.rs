//! HTTP: health, metrics, login, SIP over WebSocket.

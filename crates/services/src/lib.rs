//! Use-cases: register, authenticate, route, deliver. They return values; they never send.

//! The engine: binds features by name, owns kernel state, turns events into intents.

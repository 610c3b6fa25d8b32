//! What the mesh and its authority ask: handshakes against `snow`, commands, updates, the end of the claim.

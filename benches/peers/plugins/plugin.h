// What a plugin exports; called by drivers/native/src/plugin.rs.
#pragma once
#include <cstdint>

extern "C" {
// An engine for rows of `shape` (`axes` numbers, the first is 1) with `outputs` answers each; null if it cannot be had.
void *peer_open(const char *model, const int64_t *shape, int axes, int outputs);
// One row in, its answers out; 0 if it worked.
int peer_predict(void *engine, const float *row, float *answers);
}

// A model that YDF wrote as C++ (HEADER, namespace `forest`).
#include <cmath>
#include <cstring>

#include "plugin.h"

// The generated source prints infinite thresholds as a bare `inf`.
static constexpr float inf = __builtin_inff();
#include HEADER

static int outputs;

// One answer, or one per class.
static void put(float prediction, float *answers) { answers[0] = prediction; }
template <class Predictions> static void put(const Predictions &predictions, float *answers) {
  for (int i = 0; i < outputs; i++) answers[i] = predictions[i];
}

void *peer_open(const char *, const int64_t *shape, int axes, int n_outputs) {
  outputs = n_outputs;
  return axes == 2 && shape[1] == forest::kNumFeatures ? &outputs : nullptr;
}

int peer_predict(void *, const float *row, float *answers) {
  forest::Instance instance;
  static_assert(sizeof instance == forest::kNumFeatures * sizeof(float), "all features are numerical");
  std::memcpy(&instance, row, sizeof instance);
  put(forest::Predict(instance), answers);
  return 0;
}

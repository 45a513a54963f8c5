// A model that YDF wrote as C++ (HEADER, namespace `forest`).
#include <cmath>
#include <cstring>
#include <type_traits>

#include "plugin.h"

// The generated source prints infinite thresholds as a bare `inf`.
static constexpr float inf = __builtin_inff();
#include HEADER

static int outputs;

void *peer_open(const char *, const int64_t *shape, int axes, int n_outputs) {
  outputs = n_outputs;
  return axes == 2 && shape[1] == forest::kNumFeatures ? &outputs : nullptr;
}

int peer_predict(void *, const float *row, float *answers) {
  forest::Instance instance;
  static_assert(sizeof instance == forest::kNumFeatures * sizeof(float), "all features are numerical");
  std::memcpy(&instance, row, sizeof instance);
  const auto prediction = forest::Predict(instance);
  if constexpr (std::is_arithmetic_v<std::decay_t<decltype(prediction)>>) {
    answers[0] = prediction;
  } else {
    for (int i = 0; i < outputs; i++) answers[i] = prediction[i];
  }
  return 0;
}

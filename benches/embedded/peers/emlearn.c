// emlearn: one regressor per class, each the mean of TREES trees; base scores and link are ours.
#include <math.h>
#include <stdint.h>

#define BASE_SCORE 0.5f

float group0_predict(const float *features, int32_t length);
#if OUTPUTS == 3
float group1_predict(const float *features, int32_t length);
float group2_predict(const float *features, int32_t length);
#endif

int engine_start(void) { return 0; }

int engine_predict(const float *row, float *out) {
#if OUTPUTS == 1
    // The logit of the base score is 0.
    out[0] = 1 / (1 + expf(-TREES * group0_predict(row, FEATURES)));
#else
    out[0] = BASE_SCORE + TREES * group0_predict(row, FEATURES);
    out[1] = BASE_SCORE + TREES * group1_predict(row, FEATURES);
    out[2] = BASE_SCORE + TREES * group2_predict(row, FEATURES);
    float most = fmaxf(out[0], fmaxf(out[1], out[2])), sum = 0;
    for (int i = 0; i < OUTPUTS; i++) sum += out[i] = expf(out[i] - most);
    for (int i = 0; i < OUTPUTS; i++) out[i] /= sum;
#endif
    return 0;
}

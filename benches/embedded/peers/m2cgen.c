// m2cgen: `score` takes and gives REAL: double, or float where its text was changed.
#define VALUES (OUTPUTS > 1 ? OUTPUTS : 2)

void score(REAL *input, REAL *output);

int engine_start(void) { return 0; }

int engine_predict(const float *row, float *out) {
    REAL input[FEATURES], output[VALUES];
    for (int i = 0; i < FEATURES; i++) input[i] = row[i];
    score(input, output);
    for (int i = 0; i < OUTPUTS; i++) out[i] = (float)output[OUTPUTS > 1 ? i : 1];
    return 0;
}

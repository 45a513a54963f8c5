// decide IMAGE [VALUE]...: a decision of one tabular model on one vector, all memory static.
//
// Features are bound by name to the model's own, in its order. The exit code is 0 for a side, 2 where there is none, 64 for a VALUE
// that is no number or one too many.
#include "file.h"

#include <stdalign.h>

enum { MAX_FEATURES = 64 };

static alignas(8) unsigned char model_memory[QSC_MODEL_BYTES];
static alignas(8) unsigned char engine_memory[256 * 1024];

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s IMAGE [VALUE]...\n", argv[0]);
        return 64;
    }
    same_library(argv[0]);
    size_t image_bytes;
    void *image = read_file(argv[1], &image_bytes);
    qsc_model *model;
    done(qsc_model_init(model_memory, sizeof model_memory, image, image_bytes, &model), argv[1]);

    // Names in the image are not terminated: here they get their NUL.
    static char texts[MAX_FEATURES][64];
    const char *names[MAX_FEATURES];
    float values[MAX_FEATURES];
    size_t n = 0;
    qsc_str name;
    while (n < MAX_FEATURES && qsc_model_feature_name(model, n, &name) == QSC_STATUS_OK) {
        snprintf(texts[n], sizeof texts[n], "%.*s", (int)name.len, name.data);
        names[n] = texts[n];
        // What is not given is missing.
        const char *text = (int)n + 2 < argc ? argv[n + 2] : "nan";
        char *end;
        values[n] = strtof(text, &end);
        if (end == text || *end != '\0') {
            fprintf(stderr, "%s: %s is no number\n", names[n], text);
            free(image);
            return 64;
        }
        n++;
    }
    if ((size_t)argc - 2 > n) {
        fprintf(stderr, "%s: %d values for %zu features\n", argv[1], argc - 2, n);
        free(image);
        return 64;
    }

    qsc_member member = { 0 };
    member.model = model;
    member.weight_ppm = 1000000;
    qsc_engine_config config = QSC_ENGINE_CONFIG_STANDARD;
    config.feature_names = names;
    config.n_features = n;
    config.members = &member;
    config.n_members = 1;
    qsc_engine *engine;
    done(qsc_engine_init(engine_memory, sizeof engine_memory, &config, &engine), "engine");

    qsc_decision decision;
    done(qsc_engine_decide(engine, values, NULL, n, NULL, QSC_INACTIVE_NONE, &decision), "decision");
    free(image);
    if (decision.verdict != QSC_VERDICT_SIDE) {
        qsc_str why = qsc_inactive_name(decision.outcomes[0].inactive);
        printf("no side: %.*s\n", (int)why.len, why.data);
        return 2;
    }
    qsc_str action = qsc_action_name(decision.action);
    printf("%.*s %.9g\n", (int)action.len, action.data, (double)decision.confidence);
    return 0;
}

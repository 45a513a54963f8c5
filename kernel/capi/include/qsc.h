// The C ABI of the QSC kernel. Generated from its source: do not edit.
//
// Memory is the caller's, nothing is allocated, and every call returns a status. What may be shared and what must stay
// alive stands with each type; README.md has it in one place.

#pragma once

#include <stddef.h>
#include <stdint.h>
#if defined(__GNUC__) || defined(__clang__)
#define QSC_MUST_USE __attribute__((warn_unused_result))
#else
#define QSC_MUST_USE
#endif


// Version of this ABI: a caller's `QSC_ABI_VERSION` must be what `qsc_abi_version` returns.
#define QSC_ABI_VERSION 1

// Alignment of model images, in bytes. Handles need that of `double` and `void *`; scratch memory needs none.
#define QSC_IMAGE_ALIGNMENT 64

// `qsc_struct_bytes`: a `qsc_str`.
#define QSC_STRUCT_STR 0

// `qsc_struct_bytes`: a `qsc_model_facts`.
#define QSC_STRUCT_MODEL_FACTS 1

// `qsc_struct_bytes`: a `qsc_member`.
#define QSC_STRUCT_MEMBER 2

// `qsc_struct_bytes`: a `qsc_engine_config`.
#define QSC_STRUCT_ENGINE_CONFIG 3

// `qsc_struct_bytes`: a `qsc_engine_facts`.
#define QSC_STRUCT_ENGINE_FACTS 4

// `qsc_struct_bytes`: a `qsc_outcome`.
#define QSC_STRUCT_OUTCOME 5

// `qsc_struct_bytes`: a `qsc_decision`.
#define QSC_STRUCT_DECISION 6

// Members an engine may have.
#define QSC_MAX_MEMBERS 16

// A state of `qsc_engine_decide`: the value is a number, NaN a missing one.
#define QSC_FEATURE_NUMBER 0

// The event lacks the feature.
#define QSC_FEATURE_ABSENT 1

// The event has something that is no number.
#define QSC_FEATURE_NOT_A_NUMBER 2

// Memory that holds any model of this ABI version, for static arrays; `qsc_model_bytes` is exact.
#define QSC_MODEL_BYTES 768

// A tree ensemble.
#define QSC_KIND_TREES 1

// A network.
#define QSC_KIND_NET 2

// The outputs are no votes.
#define QSC_RULE_NONE 0

// The most probable class, first of equals.
#define QSC_RULE_CLASSES 1

// One probability with a dead zone.
#define QSC_RULE_DEAD_ZONE 2

// A forecast's return over its horizon.
#define QSC_RULE_HORIZON_RETURN 3

// How a call ended. Whatever is not `QSC_STATUS_OK` has changed nothing but what its function says.
typedef enum {
    // Done.
    QSC_STATUS_OK = 0,
    // A pointer that must not be null is.
    QSC_STATUS_NULL = 1,
    // A pointer lacks the alignment of what it points to.
    QSC_STATUS_MISALIGNED = 2,
    // The memory is smaller than needed.
    QSC_STATUS_TOO_SMALL = 3,
    // The handle was never initialized, is of another kind, or was overwritten.
    QSC_STATUS_NO_HANDLE = 4,
    // A number is out of its range or unknown, or reserved space is not zero.
    QSC_STATUS_ARGUMENT = 5,
    // Nothing has this index.
    QSC_STATUS_INDEX = 6,
    // An array has another length than the model or engine needs.
    QSC_STATUS_LENGTH = 7,
    // Memory that is written to overlaps other memory of the call; `qsc_model_init` and the predictions look.
    QSC_STATUS_OVERLAP = 8,
    // The caller was compiled for another version of this ABI.
    QSC_STATUS_ABI = 9,
    // A text is not UTF-8.
    QSC_STATUS_TEXT = 10,
    // This machine has no backend of that name.
    QSC_STATUS_BACKEND = 11,
    // The image does not start on a 64-byte boundary.
    QSC_STATUS_IMAGE_MISALIGNED = 16,
    // The bytes are no model image.
    QSC_STATUS_IMAGE_MAGIC = 17,
    // The version of the image's format is not supported.
    QSC_STATUS_IMAGE_VERSION = 18,
    // The image is longer or shorter than its header says.
    QSC_STATUS_IMAGE_LENGTH = 19,
    // The SHA-256 of the image does not match its contents.
    QSC_STATUS_IMAGE_DIGEST = 20,
    // The section table of the image is broken.
    QSC_STATUS_IMAGE_SECTIONS = 21,
    // The kind of model is not supported.
    QSC_STATUS_IMAGE_KIND = 22,
    // The image lacks a section.
    QSC_STATUS_IMAGE_MISSING_SECTION = 23,
    // A section of the image contradicts itself or another.
    QSC_STATUS_IMAGE_INVALID = 24,
    // The row holds NaN or an infinity, which this model cannot take.
    QSC_STATUS_NON_FINITE_INPUT = 32,
    // The memory of a model changed after it was checked: no answer is given.
    QSC_STATUS_CORRUPT = 33,
    // The image carries no golden vectors: nothing is proven.
    QSC_STATUS_GOLDEN_ABSENT = 40,
    // A golden row gave other bits than were recorded at compile time.
    QSC_STATUS_GOLDEN_MISMATCH = 41,
    // An engine has 1 to `QSC_MAX_MEMBERS` members.
    QSC_STATUS_MEMBERS = 48,
    // The outputs of a member's model are no votes.
    QSC_STATUS_CANNOT_VOTE = 49,
    // A model needs a feature that the vector lacks.
    QSC_STATUS_UNKNOWN_FEATURE = 50,
    // A model needs a feature whose name the vector has twice.
    QSC_STATUS_AMBIGUOUS_FEATURE = 51,
    // The windows have another shape than the sequence models of the engine.
    QSC_STATUS_WINDOWS = 52,
    // The kernel gave a reason this library has no number for.
    QSC_STATUS_OTHER = 255,
} qsc_status;

// An ensemble with everything one decision needs. Opaque; lives in memory of the caller.
//
// It holds copies of its models and names: only the images must stay. One thread at a time may use an engine.
typedef struct qsc_engine qsc_engine;

// A checked model image. Opaque; lives in memory of the caller.
//
// The image must stay where it is, unchanged, for as long as the model or an engine made from it is used. Any number of threads may
// use a model at the same time; only `qsc_model_init` and `qsc_model_set_backend` need it alone.
typedef struct qsc_model qsc_model;

// The last steps of one symbol, for all sequence models of an engine. Opaque; lives in memory of the caller.
//
// A symbol each: windows of two symbols would be one history of both. One thread at a time may use them.
typedef struct qsc_windows qsc_windows;

// UTF-8 text that is not terminated by NUL: `printf("%.*s", (int)text.len, text.data)`.
//
// Texts of a model lie in its image and live as long; all others are static.
typedef struct {
    // First byte; never null.
    const char *data;
    // Bytes.
    size_t len;
} qsc_str;

// What to do: `QSC_ACTION_…`.
typedef uint32_t qsc_action;

// Why a member has no vote: `QSC_INACTIVE_…`.
typedef uint32_t qsc_inactive;

// How far the active members agree: `QSC_CONSENSUS_…`.
typedef uint32_t qsc_consensus;

// What the degeneracy windows do: `QSC_DEGENERACY_…`.
typedef uint32_t qsc_degeneracy;

// Whether a member votes: `QSC_MODE_…`.
typedef uint32_t qsc_mode;

// What a member does with NaN: `QSC_MISSING_…`.
typedef uint32_t qsc_missing;

// How probabilities become a confidence: `QSC_CONFIDENCE_…`.
typedef uint32_t qsc_confidence;

// A model in the ensemble. Start from `= {0}`: it votes, rejects NaN, and is as confident as its largest probability.
typedef struct {
    // The model; null is one that could not be loaded: always `QSC_INACTIVE_MODEL_NOT_LOADED`, while the others vote.
    const qsc_model *model;
    // Where each of the model's features is in the vector, in row order; null binds them by name.
    const uint16_t *indices;
    // The model's number of features; 0 with null.
    size_t n_indices;
    // Weight in parts per million, 1 to 1 000 000.
    uint32_t weight_ppm;
    // Whether it votes.
    qsc_mode mode;
    // What it does with NaN.
    qsc_missing missing;
    // How probabilities become a confidence.
    qsc_confidence confidence;
    // Must be zero.
    uint64_t reserved[4];
} qsc_member;

// An engine's configuration. Start from `QSC_ENGINE_CONFIG_STANDARD`.
typedef struct {
    // `QSC_ABI_VERSION` of the header the caller was compiled with.
    uint32_t abi_version;
    // What the degeneracy windows do.
    qsc_degeneracy degeneracy;
    // Names of the features, `[n_features]`, each ending in NUL, in the order of the vector.
    const char *const *feature_names;
    // Features of the vector, 1 to 65 536.
    size_t n_features;
    // The members, `[n_members]`.
    const qsc_member *members;
    // 1 to `QSC_MAX_MEMBERS`.
    size_t n_members;
    // The confidence of a decision is at most this, 0 to 1.
    float max_confidence;
    // Factor on the confidence when all active members agree; 0 or more.
    float unanimous;
    // When at least three quarters do.
    float strong;
    // When at least half do.
    float split;
    // When fewer do.
    float weak;
    // Must be zero.
    uint32_t reserved_word;
    // Must be zero.
    uint64_t reserved[4];
} qsc_engine_config;

// What is to be known of an engine.
typedef struct {
    // Members.
    size_t n_members;
    // Features of its vector.
    size_t n_features;
    // Sequence models among its members: windows of each symbol.
    size_t n_windows;
    // Bytes of memory `qsc_windows_init` needs; 0 without sequence models, which need no windows.
    size_t windows_bytes;
    // Vectors among the last 50 that were remembered.
    size_t fingerprints;
    // Different ones among them.
    size_t unique_fingerprints;
    // Zero.
    uint64_t reserved[4];
} qsc_engine_facts;

// What a decision came to: `QSC_VERDICT_…`.
typedef uint32_t qsc_verdict;

// What one member came to.
typedef struct {
    // What it predicted; `QSC_ACTION_NONE` if it did not.
    qsc_action action;
    // How sure it is, 0 to 1; NaN without a prediction.
    float confidence;
    // Why it has no vote; `QSC_INACTIVE_NONE` if it has one.
    qsc_inactive inactive;
    // 1 if the degeneracy window would have thrown it out (only when observing), also one that only shadows.
    uint32_t degenerate;
    // Its weight in this vote, renormalized to 1 over the active members; 0 if it is inactive.
    double effective_weight;
    // Zero.
    uint64_t reserved[2];
} qsc_outcome;

// What an event came to. All zero but for NaN is no decision, which is also what a failed call leaves.
typedef struct {
    // Whether there is a side.
    qsc_verdict verdict;
    // The side; `QSC_ACTION_NONE` if there is none.
    qsc_action action;
    // Confidence in it, 0 to 1; NaN if there is none.
    float confidence;
    // How far the active members agree; `QSC_CONSENSUS_NONE` without a side.
    qsc_consensus consensus;
    // Active members that chose the side.
    uint32_t chose;
    // Active members.
    uint32_t active;
    // Members, and outcomes below.
    uint32_t n_members;
    // The first four bytes of the feature vector's fingerprint.
    uint8_t fingerprint[4];
    // Zero.
    uint64_t reserved[4];
    // What each member came to, in the order of the configuration.
    qsc_outcome outcomes[QSC_MAX_MEMBERS];
} qsc_decision;

// What is to be known of a model.
typedef struct {
    // Its name, e.g. `xgb`.
    qsc_str name;
    // Library that trained it.
    qsc_str library;
    // Version of that library.
    qsc_str library_version;
    // Objective or architecture, in the library's words.
    qsc_str objective;
    // The backend predictions run on.
    qsc_str backend;
    // Features per step.
    size_t n_features;
    // Steps of a row; 1 for tabular models.
    size_t seq_len;
    // Values of a row: `seq_len · n_features`.
    size_t row_len;
    // Margins or logits per row.
    size_t n_raw;
    // Outputs per row.
    size_t n_outputs;
    // Classes, as many as outputs; 0 for models without classes.
    size_t n_classes;
    // Golden vectors in the image.
    size_t golden_rows;
    // Scratch memory of a prediction or the golden check in bytes, at any address.
    size_t scratch_bytes;
    // Scratch memory of a batch of any number of rows in bytes, at any address.
    size_t batch_scratch_bytes;
    // Bytes of the image.
    size_t image_bytes;
    // Trees: proven bound of the error of a raw output; NaN for networks.
    double max_abs_error;
    // `QSC_KIND_…`.
    uint32_t kind;
    // How outputs become an action, `QSC_RULE_…`.
    uint32_t rule;
    // Major version of the image's format.
    uint32_t format_major;
    // Minor version.
    uint32_t format_minor;
    // SHA-256 of the image but its own digest.
    uint8_t sha256[32];
    // Zero.
    uint64_t reserved[8];
} qsc_model_facts;

// No action: there is no decision or prediction.
#define QSC_ACTION_NONE 0

// Buy.
#define QSC_ACTION_BUY 1

// Sell.
#define QSC_ACTION_SELL 2

// Hold.
#define QSC_ACTION_HOLD 3

// It has one; as `refused`: the event is refused to nobody.
#define QSC_INACTIVE_NONE 0

// The model erred on its way.
#define QSC_INACTIVE_EXCEPTION_IN_PREDICT 1

// A feature is NaN or no number.
#define QSC_INACTIVE_NAN_INPUT 2

// A feature is infinite.
#define QSC_INACTIVE_INF_INPUT 3

// The row has not the length the model needs.
#define QSC_INACTIVE_FEATURE_DIM_MISMATCH 4

// A feature the model needs is absent.
#define QSC_INACTIVE_MISSING_FEATURE 5

// The window of a sequence model is not full yet.
#define QSC_INACTIVE_INSUFFICIENT_HISTORY 6

// A one-probability model answered between its two thresholds.
#define QSC_INACTIVE_DEAD_ZONE 7

// The model keeps giving one answer.
#define QSC_INACTIVE_DEGENERATE_OUTPUT 8

// The model's output is NaN or infinite, or no probability where it must be one.
#define QSC_INACTIVE_NON_FINITE_OUTPUT 9

// The member has no model.
#define QSC_INACTIVE_MODEL_NOT_LOADED 10

// The member only shadows.
#define QSC_INACTIVE_SHADOW_MODE 11

// The event is older than allowed: the one reason a caller may give as `refused`.
#define QSC_INACTIVE_STALE_INPUT 12

// Telemetry of other producers; never given here.
#define QSC_INACTIVE_FALLBACK_RULES 13

// There is no side to agree on.
#define QSC_CONSENSUS_NONE 0

// All of them.
#define QSC_CONSENSUS_UNANIMOUS 1

// At least three quarters.
#define QSC_CONSENSUS_STRONG 2

// At least half.
#define QSC_CONSENSUS_SPLIT 3

// Fewer.
#define QSC_CONSENSUS_WEAK 4

// It votes.
#define QSC_MODE_VOTE 0

// It is asked and reported, but never votes.
#define QSC_MODE_SHADOW 1

// NaN makes the member inactive.
#define QSC_MISSING_REJECT 0

// NaN takes the tree's own missing-value branch.
#define QSC_MISSING_NATIVE 1

// The largest probability.
#define QSC_CONFIDENCE_MAX 0

// 0.50 + min(p1 − p2, 1) · 0.45 of the two largest.
#define QSC_CONFIDENCE_MARGIN 1

// A degenerate model is inactive.
#define QSC_DEGENERACY_ENFORCE 0

// A degenerate model is reported and votes.
#define QSC_DEGENERACY_OBSERVE 1

// Nothing is watched.
#define QSC_DEGENERACY_OFF 2

// Nothing was decided: the call failed.
#define QSC_VERDICT_NONE 0

// One action has the largest weight.
#define QSC_VERDICT_SIDE 1

// Two or more actions share the largest weight exactly: no side.
#define QSC_VERDICT_TIE 2

// No member is active: no side.
#define QSC_VERDICT_NO_ACTIVE_MODEL 3

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI version of this library.
QSC_MUST_USE uint32_t qsc_abi_version(void);

// The release of this library, e.g. `0.1.0`.
QSC_MUST_USE qsc_str qsc_version(void);

// What a status means, in one sentence that ends in NUL; also for numbers this library does not know.
QSC_MUST_USE const char *qsc_status_text(uint32_t status);

// Size of a struct as this library has it, by `QSC_STRUCT_…`; 0 for an unknown one. `qsc_abi_matches` compares all of them.
QSC_MUST_USE
size_t qsc_struct_bytes(uint32_t which);

// The name of an action on the wire: `BUY`, `SELL`, `HOLD`; empty for any other number.
QSC_MUST_USE qsc_str qsc_action_name(qsc_action code);

// The name of a reason on the wire, e.g. `nan_input`; empty for any other number.
QSC_MUST_USE qsc_str qsc_inactive_name(qsc_inactive code);

// The name of a consensus on the wire, e.g. `strong`; empty for any other number.
QSC_MUST_USE qsc_str qsc_consensus_name(qsc_consensus code);

// Bytes of memory `qsc_engine_init` needs for this configuration.
//
// # Safety
// Pointers are null or valid, also those in `config`.
QSC_MUST_USE qsc_status qsc_engine_bytes(const qsc_engine_config *config, size_t *bytes);

// Makes an engine in `memory`, after holding every model to its golden vectors.
//
// The configuration, its names and model handles are not needed afterwards; the images are. After an error `*engine` is null, and an
// engine that was in `memory` may be lost: its handle then is none any more. To replace an engine make the new one in other memory.
//
// # Safety
// Pointers are null or valid for the sizes given, also those in `config`; images stay where they are, unchanged, while the engine is
// used; `memory` holds nothing of the configuration.
QSC_MUST_USE
qsc_status qsc_engine_init(void *memory,
                           size_t memory_bytes,
                           const qsc_engine_config *config,
                           qsc_engine **engine);

// Fills `facts`.
//
// # Safety
// Pointers are null or valid; nobody decides on the engine meanwhile.
QSC_MUST_USE qsc_status qsc_engine_describe(const qsc_engine *engine, qsc_engine_facts *facts);

// Gives every member another weight, in parts per million, 1 to 1 000 000: all of them or, after an error, none.
//
// # Safety
// Pointers are null or valid for the length given; nobody else uses the engine meanwhile.
QSC_MUST_USE
qsc_status qsc_engine_set_weights(qsc_engine *engine,
                                  const uint32_t *weights_ppm,
                                  size_t n_members);

// Decides one event: binds, validates, predicts, guards and votes.
//
// `values` is the whole vector, `[n_features]`. `states` says of each value whether it is one, `QSC_FEATURE_…`; null: all are numbers.
// `windows` are those of the event's symbol, and null for an engine without sequence models; those of another engine are refused only
// if their shapes differ. An event that must not be decided because it is stale is `refused` as `QSC_INACTIVE_STALE_INPUT`: no member
// sees it, but the windows go on; a history can be replayed so. Other reasons are found here, not given.
//
// A sick model is an outcome, not an error. After an error nothing has changed, and `*decision` says that nothing was decided.
//
// # Safety
// Pointers are null or valid for the length given; engine, windows and decision are this call's alone.
QSC_MUST_USE
qsc_status qsc_engine_decide(qsc_engine *engine,
                             const float *values,
                             const uint8_t *states,
                             size_t n_features,
                             qsc_windows *windows,
                             qsc_inactive refused,
                             qsc_decision *decision);

// Makes empty windows for one symbol in `memory`, of `windows_bytes` of the engine's facts.
//
// After an error `*windows` is null, and windows that were in `memory` may be lost: their handle then is none any more.
//
// # Safety
// Pointers are null or valid for the sizes given; nobody decides on the engine meanwhile.
QSC_MUST_USE
qsc_status qsc_windows_init(void *memory,
                            size_t memory_bytes,
                            const qsc_engine *engine,
                            qsc_windows **windows);

// Forgets all steps: after a gap in the events of the symbol, models wait for a full window rather than see time jump.
//
// # Safety
// `windows` is null or valid, and nobody else uses it meanwhile.
QSC_MUST_USE
qsc_status qsc_windows_clear(qsc_windows *windows);

// Bytes of memory `qsc_model_init` needs.
QSC_MUST_USE size_t qsc_model_bytes(void);

// Checks an image and makes a model of it in `memory`.
//
// The image is treated as hostile: its digest and every index, offset and size are checked here, once. It must start on a boundary of
// `QSC_IMAGE_ALIGNMENT` bytes. After an error `*model` is null.
//
// # Safety
// Pointers are null or valid for the sizes given; the image stays where it is, unchanged, while the model is used.
QSC_MUST_USE
qsc_status qsc_model_init(void *memory,
                          size_t memory_bytes,
                          const void *image,
                          size_t image_bytes,
                          qsc_model **model);

// Fills `facts`.
//
// # Safety
// Pointers are null or valid.
QSC_MUST_USE qsc_status qsc_model_describe(const qsc_model *model, qsc_model_facts *facts);

// The name of feature `at`, in row order.
//
// # Safety
// Pointers are null or valid.
QSC_MUST_USE qsc_status qsc_model_feature_name(const qsc_model *model, size_t at, qsc_str *name);

// The action of class `at`, in output order.
//
// # Safety
// Pointers are null or valid.
QSC_MUST_USE qsc_status qsc_model_class(const qsc_model *model, size_t at, qsc_action *class_);

// Predicts one row of `row_len` floats, `[seq_len, n_features]`, into `n_outputs` floats.
//
// `raw` takes `n_raw` margins or logits, or is null with `raw_len` 0. To a tree model NaN is a missing value and an infinity an
// ordinary one; a network takes neither. Lengths count values. After an error nothing was written but scratch memory.
//
// # Safety
// Pointers are null or valid for the lengths given; scratch memory, `raw` and `values` are this call's alone.
QSC_MUST_USE
qsc_status qsc_model_predict(const qsc_model *model,
                             const float *row,
                             size_t row_len,
                             double *raw,
                             size_t raw_len,
                             float *values,
                             size_t values_len,
                             void *scratch,
                             size_t scratch_bytes);

// Predicts `rows`, `[n, row_len]`, into `raw`, `[n, n_raw]`, and `values`, `[n, n_outputs]`, with the bits `qsc_model_predict` gives
// row by row. Trees are faster so from about ten rows on.
//
// Lengths count values. After an error the outputs are undefined.
//
// # Safety
// Pointers are null or valid for the lengths given; scratch memory, `raw` and `values` are this call's alone.
QSC_MUST_USE
qsc_status qsc_model_predict_batch(const qsc_model *model,
                                   const float *rows,
                                   size_t rows_len,
                                   double *raw,
                                   size_t raw_len,
                                   float *values,
                                   size_t values_len,
                                   void *scratch,
                                   size_t scratch_bytes);

// Predicts every golden row of the image, one by one, and compares all bits with those recorded at compile time: `QSC_STATUS_OK` proves
// that this machine predicts rows as the model was compiled. A batch takes another path, which gives the same bits but is not run here.
//
// # Safety
// Pointers are null or valid for the sizes given; scratch memory is this call's alone.
QSC_MUST_USE
qsc_status qsc_model_check_golden(const qsc_model *model,
                                  void *scratch,
                                  size_t scratch_bytes);

// The name of this machine's backend `at`, slowest first: `QSC_STATUS_INDEX` ends the list. All backends give the same bits.
//
// # Safety
// `name` is null or valid.
QSC_MUST_USE
qsc_status qsc_backend_name(size_t at,
                            qsc_str *name);

// Makes predictions of this model run on a backend, by its name; `auto` is the fastest, which a model starts with.
//
// Engines made from the model before keep theirs. After an error the model is as it was.
//
// # Safety
// `model` is null or a model nobody else uses meanwhile; `name` is null or ends in NUL.
QSC_MUST_USE
qsc_status qsc_model_set_backend(qsc_model *model,
                                 const char *name);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

// The standard configuration: degeneracy enforced, confidence at most 0.95, no factors. Names and members follow.
#define QSC_ENGINE_CONFIG_STANDARD \
    { QSC_ABI_VERSION, QSC_DEGENERACY_ENFORCE, NULL, 0, NULL, 0, 0.95f, 1.0f, 1.0f, 1.0f, 1.0f, 0, { 0, 0, 0, 0 } }

// 1 if the library in use is the one this header describes. Call it first.
static inline int qsc_abi_matches(void)
{
    return qsc_abi_version() == QSC_ABI_VERSION
        && qsc_struct_bytes(QSC_STRUCT_STR) == sizeof(qsc_str)
        && qsc_struct_bytes(QSC_STRUCT_MODEL_FACTS) == sizeof(qsc_model_facts)
        && qsc_struct_bytes(QSC_STRUCT_MEMBER) == sizeof(qsc_member)
        && qsc_struct_bytes(QSC_STRUCT_ENGINE_CONFIG) == sizeof(qsc_engine_config)
        && qsc_struct_bytes(QSC_STRUCT_ENGINE_FACTS) == sizeof(qsc_engine_facts)
        && qsc_struct_bytes(QSC_STRUCT_OUTCOME) == sizeof(qsc_outcome)
        && qsc_struct_bytes(QSC_STRUCT_DECISION) == sizeof(qsc_decision);
}

// TensorFlow Lite Micro: its interpreter, with the one operator the network needs and an arena as small as it can be.
#include <cmath>
#include <cstdint>
#include <new>

#include "tensorflow/lite/micro/kernels/fully_connected.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" const unsigned char model_data[];

using Resolver = tflite::MicroMutableOpResolver<1>;

alignas(16) static uint8_t arena[ARENA_BYTES];
alignas(Resolver) static uint8_t resolver_memory[sizeof(Resolver)];
alignas(tflite::MicroInterpreter) static uint8_t interpreter_memory[sizeof(tflite::MicroInterpreter)];
static tflite::MicroInterpreter *interpreter;

extern "C" int engine_start() {
    auto *resolver = new (resolver_memory) Resolver;
    if (resolver->AddFullyConnected(tflite::Register_FULLY_CONNECTED_INT8()) != kTfLiteOk) return 1;
    interpreter = new (interpreter_memory)
        tflite::MicroInterpreter(tflite::GetModel(model_data), *resolver, arena, ARENA_BYTES);
    return interpreter->AllocateTensors() == kTfLiteOk ? 0 : 1;
}

extern "C" int engine_predict(const float *row, float *out) {
    TfLiteTensor *input = interpreter->input(0);
    const float step = input->params.scale, zero = input->params.zero_point;
    for (int i = 0; i < FEATURES; i++)
        input->data.int8[i] = static_cast<int8_t>(std::fmin(std::fmax(std::round(row[i] / step) + zero, -128), 127));
    if (interpreter->Invoke() != kTfLiteOk) return 1;
    const TfLiteTensor *output = interpreter->output(0);
    // The network forecasts differences from the last value.
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = row[FEATURES - 1] + (output->data.int8[i] - output->params.zero_point) * output->params.scale;
    return 0;
}

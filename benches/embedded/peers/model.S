// A .tflite file in flash, named by MODEL_FILE.
    .section .rodata.model_data, "a"
    .balign 16
    .global model_data
model_data:
    .incbin MODEL_FILE

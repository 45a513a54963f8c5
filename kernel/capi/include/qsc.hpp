// Owners for the C ABI: they bring the memory qsc.h asks for, and turn a status into an exception. C++17.
//
// An image must outlive its models and engines; `qsc::Image` keeps one on the boundary it needs.
#ifndef QSC_HPP
#define QSC_HPP

#include "qsc.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace qsc {

// A call that did not end well.
class Error : public std::runtime_error {
public:
    explicit Error(qsc_status status) : std::runtime_error(qsc_status_text(status)), status_(status) {}
    qsc_status status() const noexcept { return status_; }

private:
    qsc_status status_;
};

inline void check(qsc_status status)
{
    if (status != QSC_STATUS_OK) {
        throw Error(status);
    }
}

inline std::string_view view(qsc_str text) { return {text.data, text.len}; }

// Zeroed memory on a 64-byte boundary.
class Memory {
public:
    explicit Memory(std::size_t bytes) : bytes_(bytes), data_(::operator new(bytes, boundary()))
    {
        std::memset(data_.get(), 0, bytes);
    }
    void *data() const noexcept { return data_.get(); }
    std::size_t size() const noexcept { return bytes_; }

private:
    static constexpr std::align_val_t boundary() { return std::align_val_t{QSC_IMAGE_ALIGNMENT}; }
    struct Release {
        void operator()(void *data) const noexcept { ::operator delete(data, boundary()); }
    };
    std::size_t bytes_;
    std::unique_ptr<void, Release> data_;
};

// A copy of a model image.
class Image {
public:
    explicit Image(std::string_view bytes) : memory_(bytes.size()), bytes_(bytes.size())
    {
        std::memcpy(memory_.data(), bytes.data(), bytes.size());
    }
    const void *data() const noexcept { return memory_.data(); }
    std::size_t size() const noexcept { return bytes_; }

private:
    Memory memory_;
    std::size_t bytes_;
};

// A checked image. Many threads may use one.
class Model {
public:
    explicit Model(const Image &image) : memory_(qsc_model_bytes())
    {
        check(qsc_model_init(memory_.data(), memory_.size(), image.data(), image.size(), &model_));
    }
    const qsc_model *get() const noexcept { return model_; }

    qsc_model_facts facts() const
    {
        qsc_model_facts facts;
        check(qsc_model_describe(model_, &facts));
        return facts;
    }
    std::string_view feature_name(std::size_t at) const
    {
        qsc_str name;
        check(qsc_model_feature_name(model_, at, &name));
        return view(name);
    }
    void set_backend(const std::string &name) { check(qsc_model_set_backend(model_, name.c_str())); }

private:
    Memory memory_;
    qsc_model *model_ = nullptr;
};

class Engine;

// The history of one symbol. One thread at a time.
class Windows {
public:
    explicit Windows(const Engine &engine);
    qsc_windows *get() noexcept { return windows_; }
    void clear()
    {
        if (windows_ != nullptr) {
            check(qsc_windows_clear(windows_));
        }
    }

private:
    Memory memory_;
    qsc_windows *windows_ = nullptr;
};

// Members, guards and the vote. One thread at a time.
class Engine {
public:
    explicit Engine(const qsc_engine_config &config) : memory_(bytes(config))
    {
        check(qsc_engine_init(memory_.data(), memory_.size(), &config, &engine_));
    }
    const qsc_engine *get() const noexcept { return engine_; }

    qsc_engine_facts facts() const
    {
        qsc_engine_facts facts;
        check(qsc_engine_describe(engine_, &facts));
        return facts;
    }
    void set_weights(const std::vector<std::uint32_t> &ppm)
    {
        check(qsc_engine_set_weights(engine_, ppm.data(), ppm.size()));
    }
    // The decision on one event of the symbol these windows belong to; every value is a number, NaN a missing one.
    qsc_decision decide(const std::vector<float> &values, Windows &windows,
                        qsc_inactive refused = QSC_INACTIVE_NONE)
    {
        return decide(values, nullptr, windows, refused);
    }
    // The same, where the event may lack a feature or have something that is no number: QSC_FEATURE_… for each value.
    qsc_decision decide(const std::vector<float> &values, const std::vector<std::uint8_t> &states, Windows &windows,
                        qsc_inactive refused = QSC_INACTIVE_NONE)
    {
        if (states.size() != values.size()) {
            throw Error(QSC_STATUS_LENGTH);
        }
        return decide(values, states.data(), windows, refused);
    }

private:
    qsc_decision decide(const std::vector<float> &values, const std::uint8_t *states, Windows &windows,
                        qsc_inactive refused)
    {
        qsc_decision decision;
        check(qsc_engine_decide(engine_, values.data(), states, values.size(), windows.get(), refused, &decision));
        return decision;
    }
    static std::size_t bytes(const qsc_engine_config &config)
    {
        std::size_t bytes = 0;
        check(qsc_engine_bytes(&config, &bytes));
        return bytes;
    }
    Memory memory_;
    qsc_engine *engine_ = nullptr;
};

// An engine without sequence models takes no windows: then these are none.
inline Windows::Windows(const Engine &engine) : memory_(engine.facts().windows_bytes)
{
    if (memory_.size() > 0) {
        check(qsc_windows_init(memory_.data(), memory_.size(), engine.get(), &windows_));
    }
}

} // namespace qsc

#endif

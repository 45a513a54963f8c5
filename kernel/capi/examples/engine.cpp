// engine NAMES EVENTS IMAGE...: events through an ensemble, with windows of two symbols.
//
// NAMES is one feature name a line, EVENTS raw float32, [n, names], NaN where the event lacks the feature; events belong to the two
// symbols in turn. From the middle on the first member weighs half. A line for each decision: verdict, action, bits of the confidence, consensus, fingerprint, and of each
// member action, bits of its confidence, reason, and bits of its effective weight.
#include "qsc.hpp"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

namespace {

std::string read(const char *path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw std::runtime_error(std::string(path) + ": cannot be read");
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Bits, typename Number> Bits bits(Number number)
{
    static_assert(sizeof(Bits) == sizeof(Number));
    Bits bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
}

void print(const qsc_decision &decision)
{
    std::printf("%" PRIu32 " %" PRIu32 " %08" PRIx32 " %" PRIu32 " %02x%02x%02x%02x", decision.verdict, decision.action,
                bits<std::uint32_t>(decision.confidence), decision.consensus, decision.fingerprint[0],
                decision.fingerprint[1], decision.fingerprint[2], decision.fingerprint[3]);
    for (std::uint32_t at = 0; at < decision.n_members; at++) {
        const qsc_outcome &outcome = decision.outcomes[at];
        std::printf(" | %" PRIu32 " %08" PRIx32 " %" PRIu32 " %016" PRIx64, outcome.action,
                    bits<std::uint32_t>(outcome.confidence), outcome.inactive,
                    bits<std::uint64_t>(outcome.effective_weight));
    }
    std::printf("\n");
}

int run(int argc, char **argv)
{
    std::vector<std::string> names;
    std::istringstream lines(read(argv[1]));
    for (std::string line; std::getline(lines, line);) {
        names.push_back(line);
    }
    std::vector<const char *> pointers;
    for (const std::string &name : names) {
        pointers.push_back(name.c_str());
    }
    const std::string events = read(argv[2]);

    // Images stay for as long as the engine decides; models are needed to make it only.
    std::vector<qsc::Image> images;
    std::vector<qsc::Model> models;
    std::vector<qsc_member> members;
    for (int at = 3; at < argc; at++) {
        images.emplace_back(read(argv[at]));
    }
    for (const qsc::Image &image : images) {
        models.emplace_back(image);
        qsc_member member = {};
        member.model = models.back().get();
        member.weight_ppm = 1000000;
        members.push_back(member);
    }
    qsc_engine_config config = QSC_ENGINE_CONFIG_STANDARD;
    config.feature_names = pointers.data();
    config.n_features = pointers.size();
    config.members = members.data();
    config.n_members = members.size();
    qsc::Engine engine(config);
    models.clear();

    qsc::Windows symbols[] = {qsc::Windows(engine), qsc::Windows(engine)};
    const std::size_t event_bytes = names.size() * sizeof(float);
    if (names.empty() || events.size() % event_bytes != 0) {
        throw std::runtime_error(std::string(argv[2]) + ": its last event is torn");
    }
    const std::size_t n = events.size() / event_bytes;
    std::vector<float> values(names.size());
    std::vector<std::uint8_t> states(names.size());
    for (std::size_t event = 0; event < n; event++) {
        if (event == n / 2) {
            std::vector<std::uint32_t> weights(members.size(), 1000000);
            weights[0] = 500000;
            engine.set_weights(weights);
        }
        std::memcpy(values.data(), events.data() + event * event_bytes, event_bytes);
        for (std::size_t at = 0; at < names.size(); at++) {
            states[at] = std::isnan(values[at]) ? QSC_FEATURE_ABSENT : QSC_FEATURE_NUMBER;
        }
        print(engine.decide(values, states, symbols[event % 2]));
    }
    const qsc_engine_facts facts = engine.facts();
    std::cerr << facts.unique_fingerprints << " of the last " << facts.fingerprints << " vectors are unique\n";
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4) {
        std::cerr << "usage: engine NAMES EVENTS IMAGE...\n";
        return 64;
    }
    if (!qsc_abi_matches()) {
        std::cerr << "engine was compiled for another version of the library: compile it again\n";
        return 1;
    }
    try {
        return run(argc, argv);
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}

// The words of JSON.
#ifndef LYCIA_PARALLEL_SCHEDULE_JSON_TEXT_H_
#define LYCIA_PARALLEL_SCHEDULE_JSON_TEXT_H_

#include <string>

namespace lycia::schedule {

std::string ShortestNumber(double value);         // the shortest text that reads back as the same number
std::string JsonQuoted(const std::string& text);  // "a \"b\""

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_JSON_TEXT_H_

// A schedule as people and programs like to see it. CSV is in csv.h. All functions are pure and their bytes deterministic.
#ifndef LYCIA_PARALLEL_SCHEDULE_RENDER_H_
#define LYCIA_PARALLEL_SCHEDULE_RENDER_H_

#include <string>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/timeline_svg.h"

namespace lycia::schedule {

// "makespan 16, bubble 25.0 %, peak activations 3 to 4, 2 copies of the weights"
std::string Summary(const Schedule& schedule, const Timeline& timeline);

// A grid in time: F0 is the forward of micro-batch 0, small letters are up pipes, dashes continue, dots are idle. Where the costs have no
// common measure for a readable grid, instructions stand in issue order instead, and the header says so.
//
//   worker 0 | F0 F1 .  f2 b2--- f3 ...
std::string RenderText(const Schedule& schedule, const Timeline& timeline);

// One object: name, sizes, costs, makespan (in units), bubble_ratio, span_bubble_ratio, peak_activations [worker], weights_copies,
// worker_of [pipe][stage], program [worker] of {"op": "p0.0F0", "start", "end"}.
std::string RenderJson(const Schedule& schedule, const Timeline& timeline, const Costs& costs);

std::string RenderSvg(const Schedule& schedule, const Timeline& timeline);

// The SVG's panel, for pictures with several; its times are the timeline's ticks.
Panel SchedulePanel(const Schedule& schedule, const Timeline& timeline);

// How an instruction's span looks.
SpanKind KindOf(const ScheduleShape& shape, const Instruction& instruction);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_RENDER_H_

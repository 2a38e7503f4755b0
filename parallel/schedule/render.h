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

// A grid in time: F0 is the forward of micro-batch 0, small letters are up pipes, dashes continue, dots are idle. Where a worker holds
// several stages of one direction, 2F0 says which; F0&B1 is a paired block. U is the update; reductions that take time have rows of their
// own. Where the costs have no common measure for a readable grid, instructions stand in issue order instead, and the header says so.
//
//   worker 0 | F0 F1 .  f2 b2--- f3 ...
std::string RenderText(const Schedule& schedule, const Timeline& timeline);  // render_text.cc

// One object: name, sizes, costs, makespan (in units), bubble_ratio, span_bubble_ratio, peak_activations [worker], weights_copies,
// worker_of [pipe][stage], program [worker] of {"op": "p0.0F0", "start", "end"}, with "paired_with_next": true inside a paired block.
std::string RenderJson(const Schedule& schedule, const Timeline& timeline, const Costs& costs);

// A row for each worker, with a thin one for its reductions where they take time; frames join paired blocks.
std::string RenderSvg(const Schedule& schedule, const Timeline& timeline);

// The SVG's panel, for pictures with several; its times are the timeline's ticks.
Panel SchedulePanel(const Schedule& schedule, const Timeline& timeline);

// How an instruction's span looks.
SpanKind KindOf(const Schedule& schedule, const Instruction& instruction);

// --- for renderers of other forms ---

std::string CostsJson(const Costs& costs);  // {"F": 1, "B": 2, ..., "update": 0}, and "stages" where they have their own

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_RENDER_H_

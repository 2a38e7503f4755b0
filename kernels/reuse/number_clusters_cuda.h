// From which row each row is like to the whole map.
#ifndef LYCIA_KERNELS_REUSE_NUMBER_CLUSTERS_CUDA_H_
#define LYCIA_KERNELS_REUSE_NUMBER_CLUSTERS_CUDA_H_

#include "kernels/reuse/cluster_workspace.h"
#include "kernels/reuse/index_map.h"

namespace lycia::cuda {

// workspace.firsts [M]: of each row the lowest row that it is alike, itself where there is none below. Fills the map: clusters in the order
// of their first rows, members in the order of the rows; the same whatever thread comes first.
void NumberClusters(Stream& stream, const IndexMap& map, const ClusterWorkspace& workspace);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_NUMBER_CLUSTERS_CUDA_H_

"""How accurate are other kinds of pose models with JointDETR's backbone, data and budget?"""
